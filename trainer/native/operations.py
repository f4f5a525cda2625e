"""A Program's operations as C statements: the same arithmetic, with every size and stride a constant."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.lazy import np, torch
from trainer.native.calls import Run
from trainer.native.text import NotInC, collapsed, is_half, kind_of, looped, number, offset, words
from trainer.program import AddUp, Known, ListGradient, ListProduct, Lists, LookUp, Penalty, Reverse

if TYPE_CHECKING:
    from torch import Tensor

    Own = Callable[["Statements", "Call"], None]

MOST_TURNED = 1 << 14
"Numbers of a matrix that is laid out anew on the stack."
MOST_LANES = 64
"Columns of a panel (`PANEL`), at most."
PIECE = 1 << 12
"Numbers of a long sum that one thread adds up."
CUTS = 64
"Parts that the columns of lists are cut into, each of which stands in them as often as any other."
COUNTED = 1 << 16
"Places of lists that are counted at once."
UNKNOWN = 2
"What C answers where an id is in no table; where a label is no class, it is 1."


ELEMENTWISE = {
    "add": "a + b",
    "sub": "a - b",
    "mul": "a * b",
    "div": "a / b",
    "neg": "-a",
    "abs": "fabsf(a)",
    "sign": "(float)((a > 0) - (a < 0))",
    "sqrt": "sqrtf(a)",
    "exp": "expf(a)",
    "tanh": "quick_tanh(a)",
    "sigmoid": "quick_sigmoid(a)",
    "relu": "a < 0 ? 0 : a",
    "maximum": "a > b || a != a ? a : b",
    "minimum": "a < b || a != a ? a : b",
    "eq": "(float)(a == b)",
    "ge": "(float)(a >= b)",
    "logical_or": "(float)(a || b)",
    "where": "a ? b : c",
    "threshold_backward": "b <= c ? 0 : a",
    "sigmoid_backward": "a * (1 - b) * b",
    "tanh_backward": "a * (1 - b * b)",
    "leaky_relu": "a > 0 ? a : a * b",
    "leaky_relu_backward": "b > 0 ? a : a * c",
    "elu_backward": "f <= 0 ? a * d * (b * c) * expf(f * d) : a * c",
    "silu": "a * quick_sigmoid(a)",
    "silu_backward": "a * quick_sigmoid(b) * (1 + b * (1 - quick_sigmoid(b)))",
    "gelu": "0.5f * a * (1 + erff(a * 0.70710678f))",
    "gelu_backward": "a * (0.5f * (1 + erff(b * 0.70710678f)) + b * 0.39894228f * expf(-0.5f * b * b))",
    "hardtanh": "a < b ? b : a > c ? c : a",
    "hardtanh_backward": "b <= c || b >= d ? 0 : a",
}
"Operation to what it makes of its operands, a first."


@dataclass(frozen=True)
class Call:
    """An operation of a Program, taken apart."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    out: Tensor

    @classmethod
    def of(cls, operation: Callable[[], Any]) -> Call:
        """What an operation calls, on what.

        Raises:
            NotInC: it is no call of one of torch's functions.
        """
        if not isinstance(operation, partial):
            raise NotInC("an operation of its own")
        function, args, options = operation.func, operation.args, dict(operation.keywords)
        schema, owner = getattr(function, "_schema", None), getattr(function, "__self__", None)
        name = schema.name.split("::")[1] if schema is not None else getattr(function, "__name__", str(function))
        # What another library does in the place of one of torch's functions.
        name = getattr(function, "same_as", name)
        if isinstance(owner, torch.Tensor):
            args = (owner, *args)
        elif schema is None and not hasattr(function, "same_as") and getattr(torch, name, None) is not function:
            raise NotInC(name if name.isidentifier() else "an operation of its own")
        outs = [options.pop(key) for key in ("out", "grad_input") if key in options]
        if not outs and name.endswith("_"):
            outs = [args[0]]
        if len(outs) != 1 or not isinstance(outs[0], torch.Tensor):
            raise NotInC(name)
        return cls(name.rstrip("_"), args, options, outs[0])


class Resident(NamedTuple):
    """Lists of places of all rows that there are, of which a step reads those that it is given the numbers of."""

    places: Tensor
    offsets: Tensor
    "Where the lists begin, and where the last one ends."
    width: int
    size: int
    "Rows of a step."

    def cuts(self) -> Tensor:
        """The first column of each part (`CUTS`), and their number."""
        # Some at a time, since numpy makes 64 bits of each place that it counts.
        pieces = np.split(self.places.numpy(), range(COUNTED, len(self.places), COUNTED))
        found = np.cumsum(sum(np.bincount(piece, minlength=self.width) for piece in pieces))
        parts = np.searchsorted(found, np.linspace(0, found[-1], CUTS + 1)[1:-1], side="right")
        return torch.from_numpy(np.array([0, *parts, self.width], "int32"))


class Ends(NamedTuple):
    """Where the list of a step's row r lies, as C."""

    line: str
    "The statement that looks it up."
    list: str
    "Pointer to it and its length."


class Sums(NamedTuple):
    """A sum as C."""

    line: str
    "The statement that makes it, by pieces."
    total: str
    "What it comes to, once threads have met."


@dataclass
class Statements:
    """C for the operations of one Program, and the tensors that it works on.

    Every line is a statement of which each thread does its share (`FROM` to `TO`), or one of them all (`ALONE`).
    """

    shared: bool = False
    "Whether several threads take the steps."
    tensors: list[Tensor] = field(default_factory=list)
    "What the pointers p[0], p[1], … lead to."
    lines: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    "Functions of other libraries, in which each thread does its share likewise."
    checks: list[Known | LookUp] = field(default_factory=list)
    "What ends the steps, with `work->wrong` at `UNKNOWN`, where ids are not in their table."
    _lists: dict[int, Resident] = field(default_factory=dict)
    _known: dict[tuple[int, Any], str] = field(default_factory=dict)
    _rooms: dict[str, int] = field(default_factory=dict)

    def pointer(self, tensor: Tensor) -> str:
        """The name of the pointer to a tensor's first number.

        Raises:
            NotInC: numbers of that type are not for C.
        """
        key = (tensor.data_ptr(), tensor.dtype)
        if key not in self._known:
            self._known[key] = f"{kind_of(tensor)[0]}{len(self.tensors)}"
            self.tensors.append(tensor)
        return self._known[key]

    def room(self, name: str, numbers: int) -> str:
        """The pointer to memory for so many numbers, in which a statement finds nothing and leaves nothing."""
        found = self._rooms.get(name)
        if found is None:
            found = self._rooms[name] = len(self.tensors)
            self.tensors.append(torch.empty(numbers, dtype=torch.int32))
        elif self.tensors[found].numel() < numbers:
            self.tensors[found] = torch.empty(numbers, dtype=torch.int32)
        return f"u{found}"

    def stand_for(self, tensor: Tensor, each: Tensor) -> None:
        """Read what a tensor holds in step `s` from `each[s]`."""
        self._known[tensor.data_ptr(), tensor.dtype] = f"({self.pointer(each)} + s * {tensor.numel()})"

    def stand_for_lists(self, lists: Lists, resident: Resident) -> None:
        """Read the lists of a step from those of all rows."""
        self._lists[id(lists)] = resident

    def declarations(self) -> list[str]:
        """The pointers by their names."""
        each = [(kind_of(tensor), i) for i, tensor in enumerate(self.tensors)]
        given = [f"{kind} *{kind[0]}{i} = ({kind} *)p[{i}];" for kind, i in each]
        places = [self._place_of_run(number) for number in range(len(self.runs))]
        return [*given, *(f"taking_part *run{i} = (taking_part *)p[{place}];" for i, place in enumerate(places))]

    def parts(self) -> list[str]:
        """What the functions of other libraries are given, in the work of all threads."""
        each = ", ".join(f"{{(void **)p[{self._place_of_run(i) + 1}]}}" for i in range(len(self.runs)))
        return [f"struct work parts[] = {{{each}}};", "work.parts = parts;"] if each else []

    def pointers(self) -> Any:
        """p, once every operation is added."""
        found = [t.data_ptr() for t in self.tensors]
        for run in self.runs:
            found += run.call.addresses(run.name)
        return (ctypes.c_void_p * len(found))(*found)

    def _place_of_run(self, number: int) -> int:
        return len(self.tensors) + 2 * number

    def add(self, operation: Callable[[], Any]) -> None:
        """The statements for an operation.

        Raises:
            NotInC: it has none.
        """
        if isinstance(operation, Run):
            self.lines.append(f"run{len(self.runs)}(work->parts + {len(self.runs)}, me, all);")
            self.runs.append(operation)
            return
        if isinstance(operation, Known):
            self._check(operation, operation.count)
            return
        if isinstance(operation, LookUp):
            self._look_up(operation)
            return
        if isinstance(operation, AddUp):
            self._add_up(operation)
            return
        if isinstance(operation, Penalty):
            self._penalize(operation)
            return
        if isinstance(operation, Reverse):
            self._reverse(operation)
            return
        if isinstance(operation, (ListProduct, ListGradient)):
            self._lists_of(operation)
            return
        call = Call.of(operation)
        own = OWN.get(call.name)
        if own is not None and call.name not in IN_FLOAT:
            own(self, call)
        elif own is not None:
            self._in_float(own, call)
        elif call.name in ELEMENTWISE and not call.options:
            self._elementwise(ELEMENTWISE[call.name], call.out, call.args)
        else:
            raise NotInC(call.name)

    def _elementwise(self, expression: str, out: Tensor, operands: Sequence[Any]) -> None:
        tensors = [out, *(x for x in operands if isinstance(x, torch.Tensor))]
        sizes, strides = collapsed(out.shape, [t.expand(out.shape).stride() for t in tensors])
        places = iter(strides[1:])
        reads = []
        for letter, operand in zip("abcdef", operands, strict=False):
            held = self._read(operand, next(places)) if isinstance(operand, torch.Tensor) else number(operand)
            reads.append(f"float {letter} = {held};")
        used = [read for read in reads if f" {read[6]} " in f" {words(expression)} "]
        made = f"narrow({expression})" if is_half(out) else expression
        body = f"{' '.join(used)} {self._place(out, strides[0])} = {made};"
        self.lines.append(looped(sizes, body))

    def _place(self, tensor: Tensor, strides: Sequence[int]) -> str:
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.bool):
            raise NotInC(f"numbers of type {tensor.dtype}")
        return f"{self.pointer(tensor)}[{offset(strides)}]"

    def _read(self, tensor: Tensor, strides: Sequence[int]) -> str:
        place = self._place(tensor, strides)
        return f"wide({place})" if is_half(tensor) else place

    def _in_float(self, own: Own, call: Call) -> None:
        """An operation on what is kept as bfloat16, as one on floats, which is rounded once it is done."""
        twins = {id(t): torch.empty(t.shape) for t in (call.out, *call.args) if is_half(t)}
        for read in (arg for arg in call.args if id(arg) in twins):
            self._elementwise("a", twins[id(read)], (read,))
        args = tuple(twins.get(id(arg), arg) for arg in call.args)
        own(self, Call(call.name, args, call.options, twins.get(id(call.out), call.out)))
        if id(call.out) in twins:
            self._elementwise("a", call.out, (twins[id(call.out)],))

    def _check(self, operation: Known | LookUp, count: int) -> None:
        """Every thread looks at all ids, and so finds what all others find."""
        if not operation.ids.is_contiguous():
            raise NotInC("ids of this layout")
        self.checks.append(operation)
        # As a number without sign, one below 0 is far beyond the table.
        unsigned, ids = "unsigned long long", self.pointer(operation.ids)
        look = f"{unsigned} id = {ids}[i]; most = id > most ? id : most;"
        looks = f"for (long i = 0; i < {operation.ids.numel()}; i++) {{ {look} }}"
        stop = f"if (most >= {count}) {{ work->wrong = {UNKNOWN}; return; }}"
        self.lines.append(f"{{ {unsigned} most = 0; {looks} {stop} }}")

    def _look_up(self, operation: LookUp) -> None:
        into, table, ids, _ = operation
        if any(t.dtype != torch.float32 or not t.is_contiguous() for t in (into, table)):
            raise NotInC("a table of this type")
        self._check(operation, len(table))
        width, source = table.shape[1], self.pointer(table)
        row = f"{source} + {self.pointer(ids)}[i0] * {width}"
        self.lines.append(looped([len(ids)], f"memcpy({self.pointer(into)} + i0 * {width}, {row}, {4 * width});"))

    def _add_up(self, operation: AddUp) -> None:
        """By one thread: the ids, which were looked at on the way there, say where sums lie."""
        into, vectors, ids = operation
        if any(t.dtype != torch.float32 or not t.is_contiguous() for t in (into, vectors)):
            raise NotInC("vectors of this type")
        width = into.shape[1]
        sums = f"float *sums = {self.pointer(into)} + {self.pointer(ids)}[i] * {width};"
        add = f"for (long j = 0; j < {width}; j++) sums[j] += {self.pointer(vectors)}[i * {width} + j];"
        zeros = f"memset({self.pointer(into)}, 0, {4 * into.numel()});"
        self.lines.append(f"ALONE {{ {zeros} for (long i = 0; i < {len(ids)}; i++) {{ {sums} {add} }} }}")

    def _lists_of(self, operation: ListProduct | ListGradient) -> None:
        into, rows, matrix = operation
        if not all(t.dtype in (torch.float32, torch.bfloat16) and t.is_contiguous() for t in (into, matrix)):
            raise NotInC("a table of this type")
        # Sums of what is kept as bfloat16 are sums of floats, rounded once they are done.
        twin, read = (torch.empty(t.shape) if is_half(t) else t for t in (into, matrix))
        if read is not matrix:
            self._elementwise("a", read, (matrix,))
        add = self._list_product if isinstance(operation, ListProduct) else self._list_gradient
        add(twin, self._lists[id(rows)], read)
        if twin is not into:
            self._elementwise("a", into, (twin,))

    def _list_product(self, into: Tensor, rows: Resident, kernel: Tensor) -> None:
        units, ends = kernel.shape[1], self._ends_of(rows)
        made = f"sum_of_rows({self.pointer(into)} + r * {units}, {units}, {self.pointer(kernel)}, {ends.list});"
        self.lines.append(f"for (long r = FROM({rows.size}); r < TO({rows.size}); r++) {{ {ends.line} {made} }}")

    def _list_gradient(self, into: Tensor, rows: Resident, slope: Tensor) -> None:
        """A thread does some columns of the lists, which are rows of the gradient."""
        units, ends, cuts, sums = slope.shape[1], self._ends_of(rows), self.pointer(rows.cuts()), self.pointer(into)
        part = f"long low = {cuts}[FROM({CUTS})], high = {cuts}[TO({CUTS})];"
        zeros = f"memset({sums} + low * {units}, 0, {4 * units} * (high - low));"
        add = f"add_to_rows({sums}, {units}, {self.pointer(slope)} + r * {units}, {ends.list}, low, high);"
        self.lines.append(f"{{ {part} {zeros} for (long r = 0; r < {rows.size}; r++) {{ {ends.line} {add} }} }}")

    def _ends_of(self, rows: Resident) -> Ends:
        line = f"const unsigned *ends = {self.pointer(rows.offsets)} + rows[s * {rows.size} + r];"
        return Ends(line, f"{self.pointer(rows.places)} + ends[0], ends[1] - ends[0]")

    def _reverse(self, operation: Reverse) -> None:
        into, sequence = operation
        last, steps = into.shape[1] - 1, sequence.stride(1)
        others = [0 if axis == 1 else step for axis, step in enumerate(sequence.stride())]
        place = f"{self.pointer(sequence)}[{offset(others)} + ({last} - i1) * {steps}]"
        self.lines.append(looped(into.shape, f"{self.pointer(into)}[{offset(into.stride())}] = {place};"))

    def _penalize(self, operation: Penalty) -> None:
        regularizer, weight, total, gradient, first = operation
        factors = regularizer.factors()
        if factors is None or any(t.dtype != torch.float32 or not t.is_contiguous() for t in (weight, gradient)):
            raise NotInC(f"the penalty {type(regularizer).__name__}")
        l1, l2 = factors
        sums, w, g, size = self.sums_of(weight, l1, l2), self.pointer(weight), self.pointer(gradient), weight.numel()
        self.lines += [sums.line, f"ALONE {self.pointer(total)}[0] += {sums.total};"]
        slope = [f"{number(l1)} * (({w}[i] > 0) - ({w}[i] < 0))"] * bool(l1) + [f"{number(2 * l2)} * {w}[i]"] * bool(l2)
        added = " + ".join([*([] if first else [f"{g}[i]"]), *(slope or ["0"])])
        self.lines.append(f"for (long i = FROM({size}); i < TO({size}); i++) {g}[i] = {added};")

    def sums_of(self, x: Tensor, l1: float, l2: float) -> Sums:
        """l1 sum(|x|) + l2 sum(x^2); x lies in a row."""
        pieces, at, size = -(-x.numel() // PIECE), self.pointer(x), x.numel()
        room = f"((float *){self.room('sums', pieces)})"
        length = f"k < {pieces - 1} ? {PIECE} : {size - (pieces - 1) * PIECE}"
        each = f"{room}[k] = sum_of_sizes({at} + k * {PIECE}, {length}, {number(l1)}, {number(l2)});"
        line = f"for (long k = FROM({pieces}); k < TO({pieces}); k++) {each}"
        return Sums(line, f"sum_of_row({room}, {pieces})")

    def _cat(self, call: Call) -> None:
        pieces, dim = call.args
        at = 0
        for piece in pieces:
            self._elementwise("a", call.out.narrow(dim, at, piece.shape[dim]), (piece,))
            at += piece.shape[dim]

    def _copy(self, call: Call) -> None:
        into, source = call.args[:2]
        if into.dtype != torch.int64:
            self._elementwise("b", call.out, call.args)
            return
        if source.shape != into.shape:
            raise NotInC("ids of this shape")
        sizes, (to, at) = collapsed(into.shape, [into.stride(), source.stride()])
        place = f"{self.pointer(source)}[{offset(at)}]"
        # What C calls unsigned may be numbers below 0.
        found = f"wide({place})" if is_half(source) else f"(int){place}" if source.dtype == torch.int32 else place
        body = f"{self.pointer(into)}[{offset(to)}] = {found};"
        self.lines.append(looped(sizes, body))

    def _add(self, call: Call) -> None:
        factor = call.options.get("alpha", 1)
        expression = "a + b" if factor == 1 else f"a + {number(factor)} * b"
        self._elementwise(expression, call.out, call.args)

    def _elu(self, call: Call) -> None:
        x, alpha, scale, inner = (*call.args, *[1.0] * (4 - len(call.args)))
        expression = "a > 0 ? a * c : expm1f(a * d) * b * c"
        self._elementwise(expression, call.out, (x, alpha, scale, inner))

    def _clamp(self, call: Call) -> None:
        bounds = [*call.args[1:], None, None][:2]
        low, high = (call.options.get(key, bound) for key, bound in zip(("min", "max"), bounds, strict=True))
        expression = "a"
        if low is not None:
            expression = f"({expression} < {number(low)} ? {number(low)} : {expression})"
        if high is not None:
            expression = f"({expression} > {number(high)} ? {number(high)} : {expression})"
        self._elementwise(expression, call.out, call.args[:1])

    def _ne(self, call: Call) -> None:
        """Whether each number is another one than a given one: what masks are made from."""
        x, value = call.args
        if isinstance(value, torch.Tensor) or (not x.is_floating_point() and value != int(value)):
            raise NotInC(f"{call.name} of these numbers")
        sizes, (to, at) = collapsed(call.out.shape, [call.out.stride(), x.stride()])
        place = f"{self.pointer(x)}[{offset(at)}]"
        read = f"wide({place})" if is_half(x) else place
        if is_half(x):
            # torch compares in the tensor's own type.
            value = float(torch.tensor(value, dtype=x.dtype))
        other = number(value) if x.is_floating_point() else f"({kind_of(x)}){int(value)}"
        self.lines.append(looped(sizes, f"{self.pointer(call.out)}[{offset(to)}] = {read} != {other};"))

    def _any(self, call: Call) -> None:
        """Over the last axis."""
        x, dim = call.args[:2]
        if dim % x.dim() != x.dim() - 1 or not (x.is_contiguous() and call.out.is_contiguous()):
            raise NotInC("any over another axis than the last")
        n, flags = x.shape[-1], self.pointer(x)
        found = f"flag any = 0; for (long i = 0; i < {n}; i++) any |= {flags}[i0 * {n} + i];"
        self.lines.append(looped([x.numel() // n], f"{found} {self.pointer(call.out)}[i0] = any;"))

    def _zero(self, call: Call) -> None:
        self._elementwise("0", call.out, ())

    def _sum(self, call: Call) -> None:
        x, over = call.args[0], self._over(call)
        if over == {x.dim() - 1} and x.dtype == torch.float32 and x.is_contiguous() and call.out.is_contiguous():
            n = x.shape[-1]
            body = f"{self.pointer(call.out)}[i0] = sum_of_row({self.pointer(x)} + i0 * {n}, {n});"
            self.lines.append(looped([x.numel() // n], body))
        else:
            self._reduce(call, over, "0", "to + a")

    def _mean(self, call: Call) -> None:
        self._sum(call)
        count = call.args[0].numel() / call.out.numel()
        self._elementwise(f"a / {number(count)}", call.out, (call.out,))

    def _amax(self, call: Call) -> None:
        self._reduce(call, self._over(call), "-INFINITY", "a > to || a != a ? a : to")

    def _over(self, call: Call) -> set[int]:
        """The axes that go."""
        rank = call.args[0].dim()
        dims = call.args[1] if len(call.args) > 1 else call.options.get("dim", range(rank))
        return {dim % rank for dim in ([dims] if isinstance(dims, int) else dims)}

    def _reduce(self, call: Call, over: set[int], first: str, then: str) -> None:
        """`then` is what a number `a` makes of what those before it came to, which begins as `first`."""
        x, kept = call.args[0], call.out
        for axis in sorted(over) if kept.dim() < x.dim() else ():
            kept = kept.unsqueeze(axis)
        self._elementwise(first, call.out, ())
        target = self._place(kept, [0 if axis in over else step for axis, step in enumerate(kept.stride())])
        sizes = list(x.shape)
        longest = max((axis for axis in range(len(sizes)) if axis not in over), key=sizes.__getitem__, default=None)
        body = f"float a = {self._read(x, x.stride())}, to = {target}; {target} = {then};"
        self.lines.append(looped(sizes, body, longest))

    def _softmax(self, call: Call) -> None:
        x, dim = call.args[:2]
        if dim % x.dim() != x.dim() - 1 or not x.is_contiguous() or not call.out.is_contiguous():
            raise NotInC("softmax over another axis than the last")
        n = x.shape[-1]
        body = f"softmax_row({self.pointer(call.out)} + i0 * {n}, {self.pointer(x)} + i0 * {n}, {n});"
        self.lines.append(looped([x.numel() // n], body))

    def _scatter_add(self, call: Call) -> None:
        own, dim, index, source = call.args
        if own.dim() != 2 or dim % 2 != 1 or index.dtype != torch.int64 or not isinstance(source, torch.Tensor):
            raise NotInC("scatter_add of this form")
        at, value = (f"{self.pointer(t)}[{offset(t.stride())}]" for t in (index, source))
        row = f"{self.pointer(own)}[i0 * {own.stride(0)} + at * {own.stride(1)}]"
        # What is out of range is not written, and told to the caller.
        body = f"whole at = {at}; if (at < 0 || at >= {own.shape[1]}) work->wrong = 1; else {row} += {value};"
        self.lines.append(looped(list(index.shape), body))

    def _mm(self, call: Call) -> None:
        self._product(call, None, *call.args)

    def _addmm(self, call: Call) -> None:
        self._product(call, *call.args)

    def _product(self, call: Call, bias: Tensor | None, a: Tensor, b: Tensor) -> None:
        held = [call.out, a, b, *([] if bias is None else [bias])]
        if call.options or not call.out.is_contiguous() or (bias is not None and not bias.is_contiguous()):
            raise NotInC(call.name)
        if all(is_half(t) for t in held):
            self._half_product(call, bias, a, b)
            return
        if any(t.dtype != torch.float32 for t in held):
            raise NotInC(f"{call.name} of this number type")
        (m, k), n = a.shape, b.shape[1]
        given = "0" if bias is None else self.pointer(bias)
        o, left, right = (self.pointer(t) for t in (call.out, a, b))
        am, ak = a.stride()
        if self.shared:
            steps = f"{am}, {ak}, {right}, {b.stride(0)}, {b.stride(1) if n > 1 else 1}"
            if 1 not in b.stride() and min(b.shape) > 1:
                raise NotInC(f"{call.name} of this layout")
            line = f"product_share({o}, {m}, {n}, {k}, {given}, {left}, {steps}, me, all);"
        elif b.stride(1) == 1 or n == 1:
            line = f"product({o}, {m}, {n}, {k}, {given}, {left}, {am}, {ak}, {right}, {b.stride(0)});"
        elif b.stride(0) != 1 or n * k > MOST_TURNED:
            raise NotInC(f"{call.name} of this layout")
        elif m == 1:
            line = f"row_by_columns({o}, {n}, {k}, {given}, {left}, {ak}, {right}, {b.stride(1)});"
        else:
            line = f"TURNED_PRODUCT({o}, {m}, {n}, {k}, {given}, {left}, {am}, {ak}, {right}, {b.stride(1)});"
        self.lines.append(line)

    def _half_product(self, call: Call, bias: Tensor | None, a: Tensor, b: Tensor) -> None:
        (m, k), n, pairs = a.shape, b.shape[1], -(-a.shape[1] // 2)
        if any(1 not in t.stride() and min(t.shape) > 1 for t in (a, b)):
            raise NotInC(f"{call.name} of this layout")
        given = "0" if bias is None else self.pointer(bias)
        o, left, right = (self.pointer(t) for t in (call.out, a, b))
        am, ak = a.stride() if m > 1 else (1, a.stride(1))
        apart = f"{am}, {2 * ak}"
        if ak != 1 or k % 2:
            made = self.room("pairs", m * pairs)
            self.lines.append(f"pairs_share({made}, {left}, {m}, {k}, {am}, {ak}, me, all);")
            left, apart = f"(half *){made}", f"PAIRS_DOWN({m}, {k}), PAIRS_ACROSS({m}, {k})"
        # Tiles take pairs by the sixteen.
        threads, room = torch.get_num_threads(), MOST_LANES * -(-pairs // 16) * 16
        own = f"{self.room('panels', threads * room)} + me * {room}"
        steps = f"{apart}, {right}, {b.stride(0)}, {b.stride(1) if n > 1 else 1}"
        self.lines.append(f"half_product_share({o}, {m}, {n}, {k}, {given}, {left}, {steps}, {own}, me, all);")


OWN: dict[str, Own] = {
    "add": Statements._add,
    "cat": Statements._cat,
    "clamp": Statements._clamp,
    "copy": Statements._copy,
    "elu": Statements._elu,
    "ne": Statements._ne,
    "any": Statements._any,
    "zero": Statements._zero,
    "sum": Statements._sum,
    "mean": Statements._mean,
    "amax": Statements._amax,
    "softmax": Statements._softmax,
    "scatter_add": Statements._scatter_add,
    "mm": Statements._mm,
    "addmm": Statements._addmm,
}
"Operations with a form of their own."
IN_FLOAT = ("sum", "mean", "amax", "softmax", "scatter_add")
"Those of them that know floats alone."
