"""Submits targets, polls jobs and collects results; knows the API and the storage, never Dagster."""
