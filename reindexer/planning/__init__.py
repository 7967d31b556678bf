"""Plans: what a change of definition or model does and costs, before it is done, and then exactly that.

    survey   the sources file, the settings, the database and the index: what is to be done to each source
    cost     reads rows, or a sample of them: items, tokens, money, time, space
    drift    what was changed by hand
    apply    does what a plan says, and nothing else

The plan itself is plain data: `reindexer.core.change_plan`.
"""
