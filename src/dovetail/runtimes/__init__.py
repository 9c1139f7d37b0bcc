"""Ways to run a model: one runtime per file, named as it is registered.

``standalone/`` holds the sessions themselves, which need numpy and their one runtime. An artifact's ``run.py`` is a copy of
such a file, so what is deployed is what was measured. The runtimes wrap them: options, checks, errors and profiles.
"""
