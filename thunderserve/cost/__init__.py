"""Seconds of one engine step and of one transfer, and the bytes that fit."""
