"""Put the cells of the captions benchmark beside their limits, and print them."""

from dataclasses import asdict
from typing import Any

from caption_cells import Cell
from caption_costs import batch_bytes, caption_flops
from caption_model import prompt_tokens
from rich.console import Console
from rich.table import Table

TITLES = (
    *("mode", "batch", "load s", "weights GB", "peak GB"),
    *("prefill tokens/s", "decode tokens/s", "captions/s", "arithmetic limit", "memory limit", "share"),
)


def with_limits(cell: Cell, config: Any, new_tokens: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Return a cell beside the captions per second that arithmetic and memory allow."""
    prompt = prompt_tokens(config)
    arithmetic = facts["matmul_flops_per_second"] / caption_flops(config, prompt, new_tokens)
    traffic = batch_bytes(config, cell.mode, cell.batch, prompt, new_tokens)
    speed = cell.captions_per_second
    return {
        **asdict(cell),
        "arithmetic_limit": arithmetic,
        "memory_limit": cell.batch * facts["copy_bytes_per_second"] / traffic,
        "share": None if speed is None else speed / arithmetic,
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Print the table, and below it the device and its limits."""
    tokens = f"{result['prompt_tokens']} + {result['new_tokens']} tokens"
    flops = result["flops_per_caption"] / 1e12
    console.print(table(result["cells"], f"{result['shape']}, {tokens}, {flops:.3g} TFLOP a caption"))
    facts = [
        result["device"],
        f"{result['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s in {result['matmul_dtype']}",
        f"{result['copy_bytes_per_second'] / 1e9:.3g} GB/s",
        f"load average {result['load_average']}",
        *(f"{name} {number}" for name, number in result["versions"].items()),
    ]
    console.print("; ".join(facts))


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """Return the rows as a table; limits are in captions per second."""
    answer = Table(title=title, caption="limits in captions/s; share = captions/s over the arithmetic limit")
    for heading in TITLES:
        answer.add_column(heading, justify="left" if heading == "mode" else "right")
    for row in rows:
        figures = [
            _number(row["load_seconds"]),
            _number(row["weight_bytes"], 1e9),
            _number(row["peak_bytes"], 1e9),
            _number(row["prefill_tokens_per_second"]),
            _number(row["decode_tokens_per_second"]),
            row["problem"] or _number(row["captions_per_second"]),
            _number(row["arithmetic_limit"]),
            _number(row["memory_limit"]),
            "" if row["share"] is None else f"{row['share']:.1%}",
        ]
        answer.add_row(row["mode"], str(row["batch"]), *figures)
    return answer


def _number(value: float | None, unit: float = 1.0) -> str:
    """Write three significant digits, and no fewer than all before the point."""
    if value is None:
        return ""
    value /= unit
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
