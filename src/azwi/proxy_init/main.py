"""azwi-proxy-init: sets the redirect of metadata traffic to the proxy, and shows that it works. Only wires."""

from __future__ import annotations

import os
import sys
from typing import Final

from azwi.errors import AzwiError
from azwi.flags import Flag, parse_flags
from azwi.proxy_init.apply import apply_rules, find_backends, restore_command
from azwi.proxy_init.rules import OUTPUT_CHAIN, RedirectPlan, read_plan, render_cleanup, render_redirect
from azwi.proxy_init.verify import verify_redirect

PROGRAM: Final = "azwi-proxy-init"
FLAGS: Final = (
    Flag("dry-run", "false", "print what would be applied, and change nothing", boolean=True),
    Flag("cleanup", "false", "take the redirect out again", boolean=True),
    Flag(
        "verify", "true", "try it, and fail where the metadata address does not lead to the proxy's port", boolean=True
    ),
    Flag("version", "false", "print the version", boolean=True),
)


def main(argv: list[str] | None = None) -> int:
    """Run the program; its exit code: 0, 1 for a failure, 2 for a bad flag."""
    try:
        flags = parse_flags(PROGRAM, FLAGS, sys.argv[1:] if argv is None else argv)
        if flags["version"] == "true":
            return _print_version()
        plan = read_plan(os.environ)
        if flags["cleanup"] == "true":
            return _clean_up(dry=flags["dry-run"] == "true")
        return _set(plan, dry=flags["dry-run"] == "true", verify=flags["verify"] == "true")
    except AzwiError as problem:
        sys.stderr.write(f"{PROGRAM}: {problem}\n")
        return problem.exit_code


def _print_version() -> int:
    import json  # noqa: PLC0415

    from azwi.version import describe  # noqa: PLC0415

    sys.stdout.write(json.dumps(describe()) + "\n")
    return 0


def _set(plan: RedirectPlan, *, dry: bool, verify: bool) -> int:
    backends = find_backends()
    if dry:
        sys.stdout.write(f"# {' '.join(restore_command(backends[0]))}\n{render_redirect(plan, backends[0].saved)}")
        return 0
    backend = apply_rules(backends, lambda saved: render_redirect(plan, saved))
    if verify:
        verify_redirect(plan)
    verified = "verified" if verify else "not verified"
    sys.stdout.write(
        f"{PROGRAM}: {plan.metadata_address}:{plan.metadata_port} leads to port {plan.proxy_port}, but for uid "
        f"{plan.proxy_uid}; set in iptables ({backend.name}), {verified}\n"
    )
    return 0


def _clean_up(*, dry: bool) -> int:
    """Take out what is ours, from every side that has it."""
    for backend in find_backends():
        if not (rules := render_cleanup(backend.saved)):
            continue
        if dry:
            sys.stdout.write(f"# {' '.join(restore_command(backend))}\n{rules}")
            continue
        apply_rules([backend], render_cleanup)
        sys.stdout.write(f"{PROGRAM}: chain {OUTPUT_CHAIN} taken out of iptables ({backend.name})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
