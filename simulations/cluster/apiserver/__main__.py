"""An API server of its own: `python -m simulations.cluster.apiserver --kubeconfig FILE`."""

import argparse
import asyncio
import csv
import signal
import sys
from pathlib import Path

from simulations.cluster.apiserver.errors import BadSpecError
from simulations.cluster.apiserver.rbac import User
from simulations.cluster.apiserver.server import ApiServer, ServerOptions


def read_tokens(path: Path) -> dict[str, User]:
    """The real server's token file: token,user,uid,"group1,group2" in each line."""
    tokens = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if not row:
                continue
            if len(row) < 3 or not row[0] or not row[1]:
                raise BadSpecError(f"{path}:{number}: expected token,user,uid[,groups], got {len(row)} columns")
            groups = tuple(filter(None, row[3].split(","))) if len(row) > 3 else ()
            tokens[row[0]] = User(row[1], groups)
    return tokens


async def serve(port: int, kubeconfig: Path, tokens: dict[str, User]) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with ApiServer(port=port, tokens=tokens, options=ServerOptions(tls=True)) as server:
        server.write_kubeconfig(kubeconfig)
        sys.stdout.write(f"serving on {server.url}, kubeconfig in {kubeconfig}\n")
        sys.stdout.flush()
        await ended.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulations.cluster.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="where to write the administrator's kubeconfig")
    parser.add_argument("--token-file", type=Path, help="further users, as kube-apiserver's --token-auth-file")
    args = parser.parse_args()
    try:
        tokens = read_tokens(args.token_file) if args.token_file else {}
        asyncio.run(serve(args.port, args.kubeconfig, tokens))
    except (BadSpecError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
