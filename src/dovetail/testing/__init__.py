"""Conformance suites for plug-ins, and implementations that need no hardware.

To write a runtime, subclass :class:`dovetail.core.protocols.Runtime` and pass
:class:`~dovetail.testing.runtime_suite.RuntimeConformance`; for a pass, :class:`~dovetail.testing.pass_suite.PassConformance`;
for a meter of energy, :class:`~dovetail.testing.meter_suite.MeterConformance`. All are collected by pytest from a subclass that
sets the plug-in under test.
"""
