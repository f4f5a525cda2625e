"""Steps as one function of machine code: a Program's operations as C, compiled when training begins."""
