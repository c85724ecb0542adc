import subprocess
import sys


def test_what_reading_and_writing_processes_import_brings_no_torch() -> None:
    program = (
        "import sys, fracray.extraction.processes, fracray.extraction.reading, fracray.extraction.writing\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
