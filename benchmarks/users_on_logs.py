"""Fitted users on real logs: what they predict of days, policies and quarters they never saw, and what fitting costs.

    python benchmarks/users_on_logs.py kuairand --data FOLDER
    python benchmarks/users_on_logs.py entree --data FOLDER
    python benchmarks/users_on_logs.py open-bandit --data FOLDER
    python benchmarks/users_on_logs.py scale

FOLDER holds the published data sets as `recil.read_log` reads them, in kuairand/, entree/ and open_bandit/. Each
command writes its section of docs/users-on-logs.md (--out) anew and leaves the others.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
import users_at_scale
import users_on_entree
import users_on_kuairand
import users_on_open_bandit

PAGE = Path(__file__).parents[1] / "docs" / "users-on-logs.md"
HEAD = "# Fitted users on real logs\n\nWritten by `benchmarks/users_on_logs.py`, section by section.\n"
TITLES = {
    "kuairand": "KuaiRand: the last two days",
    "entree": "Entree: the last quarter",
    "open-bandit": "Open Bandit: another policy's slates",
    "scale": "Time and memory",
}


def with_section(page: str, title: str, text: str) -> str:
    """The page with this section written anew, sections in the order of TITLES."""
    found = dict(re.findall(r"^## ([^\n]+)\n\n(.*?)(?=^## |\Z)", page, flags=re.S | re.M))
    found[title] = text
    parts = [f"## {name}\n\n{found[name].strip()}\n" for name in TITLES.values() if name in found]
    return "\n".join([HEAD, *parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=TITLES)
    parser.add_argument("--data", type=Path, help="the folder of the published data sets")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="of scale")
    parser.add_argument("--threads", type=int, default=2, help="of scale")
    given = parser.parse_args()
    if given.what == "scale":
        text = users_at_scale.section(given.sessions, given.threads)
    elif given.data is None:
        parser.error("--data is missing: the folder of the published data sets")
    else:
        # One thread, so that the figures can be had again to the last digit.
        torch.set_num_threads(1)
        sections = {"kuairand": users_on_kuairand, "entree": users_on_entree, "open-bandit": users_on_open_bandit}
        text = sections[given.what].section(given.data / given.what.replace("-", "_"), given.seed)
    page = given.out.read_text() if given.out.exists() else HEAD
    given.out.write_text(with_section(page, TITLES[given.what], text))
    print(text)


if __name__ == "__main__":
    main()
