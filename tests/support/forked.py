"""Like `python -m MODULE ARGUMENTS…`, by the fork server: `python -IS forked.py SOCKET MODULE ARGUMENTS…`.

Hands its environment, folder, input and output to a process that the server forks, and ends as that one does. If this
one is killed, so is that one. Standard library only, for it must start in no time.
"""

import json
import os
import socket
import sys


def main() -> int:
    _, address, module, *arguments = sys.argv
    wanted = {"module": module, "arguments": arguments, "env": dict(os.environ), "cwd": os.getcwd()}
    data = json.dumps(wanted).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(address)
        socket.send_fds(server, [len(data).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(data)
        code = int(server.recv(16))
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
