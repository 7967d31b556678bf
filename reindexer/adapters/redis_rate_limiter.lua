-- One account's budget of requests and tokens, in one hash. Every call is one step: no two see the same state.
--
-- For each lane and kind there is a theoretical arrival time (GCRA): when all that was taken so far will have been
-- granted by the rate. Who takes pushes it on by his cost; it may be as far ahead as the lane's bucket is deep: after
-- the cost for a backfill, as the provider's own bucket has it, before it for an edit, which is small and not to wait.
-- Edits push both lanes' times and wait for their own alone: so they pass waiting backfills, which pay for it.
-- A 429 begins a new epoch: turns that were given for later are void, and the rate is halved; then it grows again.
--
-- KEYS[1] the hash; ARGV[1] reserve, settle, limited or look; ARGV[2] its arguments as JSON. Times are this server's.

local BURST_S = {live = 6, bulk = 4}
local GROWTH = 1.03       -- a second, after a 429
local GROWN_S = 150       -- 84 times as high: where no limit is known, there is none any more
local SEEN_S = 10         -- over which the rate is measured
local LOW_RPS = 2         -- below that a 429 brings no rate whose limit is not known
local LOW_TOKENS = 500    -- of each, also after a small one: its 429 says little of how many tokens are too many
local KEEP_S = 7200
local HUGE = math.huge
local KINDS = {'requests', 'tokens'}

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local given = cjson.decode(ARGV[2])
local state, changed = {}, {}
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do state[stored[i]] = tonumber(stored[i + 1]) end

local function set(name, value)
  state[name] = value
  changed[#changed + 1] = name
  changed[#changed + 1] = string.format('%.6f', value)
end

local function write()
  if #changed > 0 then
    redis.call('HSET', KEYS[1], unpack(changed))
    redis.call('EXPIRE', KEYS[1], KEEP_S)
  end
end

local function blocked_until() return state.blocked or 0 end

local function limit(kind) -- a second; HUGE: none
  return math.min(state['limit_' .. kind] or HUGE, given['cap_' .. kind] or HUGE) / 60
end

local function slowed(kind)
  local grown_s = math.max(0, now - blocked_until())
  if not state['slow_' .. kind] or grown_s > GROWN_S then return HUGE end
  return state['slow_' .. kind] * GROWTH ^ grown_s
end

local function rate(kind) return math.min(limit(kind), slowed(kind)) end

local function seen(kind) -- a second, lately
  local over_s = math.max(1, now - (state.seen_since or now))
  local left = math.exp(((state.seen_at or now) - now) / SEEN_S)
  return (state['seen_' .. kind] or 0) * left / (SEEN_S * (1 - math.exp(-over_s / SEEN_S)))
end

local function note_seen(cost)
  local quiet_s = now - (state.seen_at or 0)
  if quiet_s > SEEN_S then set('seen_since', now) end
  for _, kind in ipairs(KINDS) do
    set('seen_' .. kind, (state['seen_' .. kind] or 0) * math.exp(-quiet_s / SEEN_S) + cost[kind])
  end
  set('seen_at', now)
end

local function arrival(lane, kind) -- a bucket of which nothing is known is empty, from now on
  local name = lane .. '_' .. kind
  if not state[name] then set(name, now + BURST_S[lane]) end
  return state[name]
end

local function note_advertised()
  for _, kind in ipairs(KINDS) do
    local advertised = given[kind .. '_advertised']
    if advertised then
      for name, value in pairs({limit = advertised.per_minute or 0, left = advertised.left or -1}) do
        if (name == 'limit' and value <= 0) or value < 0 then
          redis.call('HDEL', KEYS[1], name .. '_' .. kind)
          state[name .. '_' .. kind] = nil
        elseif state[name .. '_' .. kind] ~= value then
          set(name .. '_' .. kind, value)
        end
      end
    end
  end
end

local function not_huge(value) return value < HUGE and value or nil end

local function reserve()
  -- guard rate-limit-reservation-epoch
  if given.epoch == (state.epoch or 0) and blocked_until() <= now then return {stands = true} end
  local ratio = state.ratio or 1
  local lane = given.live and 'live' or 'bulk' -- guard rate-limit-lane-separate-wait
  local cost = {requests = 1, tokens = given.tokens * ratio}
  local go, limited = math.max(now, blocked_until()), blocked_until() > now
  for _, kind in ipairs(KINDS) do
    if rate(kind) < HUGE then
      limited = true
      local before_s = given.live and 0 or math.min(cost[kind] / rate(kind), BURST_S[lane])
      go = math.max(go, arrival(lane, kind) + before_s - BURST_S[lane])
    end
  end
  local answer = {
    wait_s = go - now, at = go, epoch = state.epoch or 0, limited = limited, charged = cost.tokens,
    tokens_per_s = not_huge(rate('tokens') / ratio),
  }
  if go - now > given.most_s then
    answer.refused = true
    return answer
  end
  for _, kind in ipairs(KINDS) do
    if rate(kind) < HUGE then
      for _, each in ipairs(given.live and {'bulk', 'live'} or {'bulk'}) do
        set(each .. '_' .. kind, math.max(arrival(each, kind), go) + cost[kind] / rate(kind))
      end
    end
  end
  note_seen(cost)
  return answer
end

local function settle()
  note_advertised()
  if given.tokens > 0 then
    local right = math.max(0.2, math.min(3, given.tokens / given.estimate))
    local weight = 0.2 * math.min(1, given.estimate / 2000)
    set('ratio', (state.ratio or 1) * (1 - weight) + right * weight)
  end
  for _, lane in ipairs({'bulk', 'live'}) do
    for _, kind in ipairs(KINDS) do
      if rate(kind) < HUGE then
        local at = arrival(lane, kind)
        local mine = lane == 'bulk' or given.live
        if kind == 'tokens' and mine and given.charged and given.tokens > 0 and given.epoch == (state.epoch or 0) then
          at = at + (given.tokens - given.charged) / rate(kind)
        end
        if state['left_' .. kind] and given[kind .. '_advertised'] then -- others may use the account, too
          at = math.max(at, now + BURST_S[lane] - state['left_' .. kind] / rate(kind))
        end
        set(lane .. '_' .. kind, at)
      end
    end
  end
  return {}
end

local function limited()
  note_advertised()
  -- guard rate-limit-single-halving
  local is_new = given.at > (state.halved or 0) -- else it was sent before the last one was heard
  local blocked = math.max(blocked_until(), now + math.min(given.retry_after_s, 3600))
  if is_new then
    local slow = {}
    for _, kind in ipairs(KINDS) do
      local present = rate(kind)
      if limit(kind) == HUGE then
        present = math.max(math.min(present, seen(kind)), 2 * LOW_RPS * (kind == 'tokens' and LOW_TOKENS or 1))
      end
      -- What was sent when nobody knew the limit says nothing against it, now that it is advertised.
      if given.limited or limit(kind) == HUGE then slow[kind] = present / 2 end
    end
    for kind, value in pairs(slow) do set('slow_' .. kind, value) end
    set('halved', now)
  end
  if is_new or blocked > blocked_until() + 0.01 then -- guard rate-limit-shared-retry-after
    set('blocked', blocked)
    set('epoch', (state.epoch or 0) + 1)
    for _, kind in ipairs(KINDS) do
      for lane, burst_s in pairs(BURST_S) do set(lane .. '_' .. kind, blocked + burst_s) end
    end
  end
  return {halved = is_new, blocked_s = blocked - now}
end

local function look()
  local answer = {blocked_s = math.max(0, blocked_until() - now)}
  answer.queue_s = answer.blocked_s
  for _, kind in ipairs(KINDS) do
    answer[kind .. '_per_minute'] = not_huge(rate(kind) * 60)
    answer[kind .. '_limit'] = not_huge(limit(kind) * 60)
    answer[kind .. '_left'] = state['left_' .. kind]
    if rate(kind) < HUGE then
      answer.queue_s = math.max(answer.queue_s, (state['bulk_' .. kind] or now + BURST_S.bulk) - BURST_S.bulk - now)
    end
  end
  return answer
end

local answer = ({reserve = reserve, settle = settle, limited = limited, look = look})[ARGV[1]]()
write()
return cjson.encode(answer)
