"""Fitted models of accelerators on the edge: DPUs in programmable logic, dataflow chips, microcontrollers."""
