"""Converts a document to PDF and reads it back."""

import pathlib
import subprocess


def run(*command):
    return subprocess.run(command, check=True, timeout=100, stdout=subprocess.PIPE, text=True).stdout


def handler(event, context):
    document = pathlib.Path("/tmp", event["name"])
    document.write_text(event["content"])
    pdf = document.with_suffix(".pdf")
    run("/usr/bin/soffice", "--headless", "--convert-to", f"pdf:{event['filter']}", "--outdir", "/tmp", str(document))
    pages = next(line for line in run("pdfinfo", str(pdf)).splitlines() if line.startswith("Pages:"))
    return {"pages": int(pages.split()[1]), "text": run("pdftotext", "-layout", str(pdf), "-")}
