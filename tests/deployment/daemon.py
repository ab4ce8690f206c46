"""Dagster's daemon, which looks at sensors, backfills and runs as often as a test wants and no user needs."""

import sys

import dagster._daemon.controller
import dagster._daemon.sensor
from dagster._daemon.cli import run_command

dagster._daemon.sensor.MIN_INTERVAL_LOOP_TIME = 1
dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2  # of backfills and run retries
dagster._daemon.controller.THREAD_CHECK_INTERVAL = 0.5  # how soon it stops

if __name__ == "__main__":
    run_command(sys.argv[1:])
