"""Packaging lives in setup.cfg. Here: release builds compile the sidecar's hot modules.

`TULLE_COMPILE=1 pip install .` builds them with mypyc; without it all stays plain Python. One source either way, and
the tests of the sidecar run on both (`tox -e compiled`).
"""

import os
import sys
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

HOT = (
    "contract/seats.py",
    "proxy/attempt.py",
    "proxy/blame.py",
    "proxy/channel.py",
    "proxy/connector.py",
    "proxy/conversation.py",
    "proxy/dial.py",
    "proxy/early.py",
    "proxy/ending.py",
    "proxy/errors.py",
    "proxy/exchange.py",
    "proxy/labels.py",
    "proxy/link.py",
    "proxy/listener.py",
    "proxy/meter.py",
    "proxy/model.py",
    "proxy/multiplex.py",
    "proxy/parts.py",
    "proxy/pool.py",
    "proxy/pump.py",
    "proxy/seams.py",
    "proxy/server.py",
    "proxy/course.py",
    "proxy/gate.py",
    "proxy/holdings.py",
    "proxy/mishap.py",
    "proxy/peers.py",
    "proxy/resend.py",
    "proxy/shadow.py",
    "proxy/tap.py",
    "proxy/targets.py",
    "proxy/traffic.py",
    "proxy/tries.py",
    "proxy/tunnel.py",
    "proxy/session.py",
    "proxy/stream.py",
    "proxy/trunk.py",
    "proxy/trunk_stream.py",
    "proxy/trunks.py",
    "proxy/trust.py",
    "proxy/policy/affinity.py",
    "proxy/policy/balance.py",
    "proxy/policy/balancer.py",
    "proxy/policy/budget.py",
    "proxy/policy/choices.py",
    "proxy/policy/classify.py",
    "proxy/policy/deadline.py",
    "proxy/policy/decide.py",
    "proxy/policy/fault.py",
    "proxy/policy/hedge.py",
    "proxy/policy/limit.py",
    "proxy/policy/load.py",
    "proxy/policy/mirror.py",
    "proxy/policy/outlier.py",
    "proxy/policy/probe.py",
    "proxy/policy/retry.py",
    "proxy/policy/ring.py",
    "proxy/policy/rota.py",
    "proxy/policy/route.py",
    "proxy/policy/window.py",
    "proxy/wire/authority.py",
    "proxy/wire/bucket.py",
    "proxy/wire/chunks.py",
    "proxy/wire/credentials.py",
    "proxy/wire/detect.py",
    "proxy/wire/framing.py",
    "proxy/wire/grpc.py",
    "proxy/wire/head.py",
    "proxy/wire/http1.py",
    "proxy/wire/http2.py",
    "proxy/wire/http2_head.py",
    "proxy/wire/marks.py",
    "proxy/wire/message.py",
    "proxy/wire/options.py",
    "proxy/wire/repair.py",
    "proxy/wire/streams.py",
    "proxy/wire/upgrade.py",
)
"""What every request passes; compiled together, so that calls between them are C calls."""


COMPILES = os.environ.get("TULLE_COMPILE") == "1" and Path("proxy").is_dir()


def compiled() -> list[object]:
    """The extension modules, when a wheel is built; mypyc is not there yet while pip asks for requirements."""
    if not COMPILES or "bdist_wheel" not in sys.argv:
        return []
    from mypyc.build import mypycify

    options = ["--config-file=", "--explicit-package-bases"]
    modules = mypycify([*options, *HOT], opt_level="3", debug_level="0", group_name="tulle_hot")
    for module in modules:
        # Nobody else links to them: so calls within go straight, and small functions are inlined.
        module.extra_compile_args += ["-fvisibility=hidden", "-fno-semantic-interposition"]
    return modules


def needed_to_compile() -> list[str]:
    """mypy, and what the sidecar imports: pip builds where nothing else is, and mypyc refuses types it cannot see."""
    metadata = ConfigParser()
    metadata.read("setup.cfg")
    extras = metadata["options.extras_require"]
    compiler = [line for line in extras["dev"].splitlines() if line.startswith("mypy")]
    needs = (metadata["options"]["install_requires"] + extras["proxy"]).splitlines()
    return compiler + [line for line in needs if line and not line.startswith("#")]


setup(
    ext_modules=compiled(),
    setup_requires=needed_to_compile() if COMPILES else [],
)
