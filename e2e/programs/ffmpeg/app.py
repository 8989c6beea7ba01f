"""Encodes a film and looks at it."""

import json
import subprocess


def handler(event, context):
    film = "/tmp/film.mp4"
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-f", "lavfi", "-i", f"testsrc=duration={event['seconds']}:size=320x240:rate=25",
                    "-c:v", "libx264", "-pix_fmt", "yuv420p", film], check=True, timeout=50)
    probe = subprocess.run(["ffprobe", "-v", "error", "-show_streams", "-of", "json", film], check=True, stdout=subprocess.PIPE)
    return json.loads(probe.stdout)["streams"][0]
