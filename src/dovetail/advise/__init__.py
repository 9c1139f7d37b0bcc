"""Advice before anything is built: which hardware suits a job, and what factors of acceleration come to together."""
