"""Typesets a page and reads it back."""

import pathlib
import subprocess


def handler(event, context):
    source = r"\documentclass{article}\begin{document}\title{%s}\maketitle $e=mc^2$\end{document}" % event["title"]
    pathlib.Path("/tmp/page.tex").write_text(source)
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd="/tmp", check=True, timeout=50)
    return {"text": subprocess.run(["pdftotext", "/tmp/page.pdf", "-"], check=True, stdout=subprocess.PIPE, text=True).stdout}
