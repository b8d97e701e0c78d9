"""What the golden master tries: cameras, configs, files and command lines, as plain values."""

from __future__ import annotations

CLEAN = {"kind": "simulated", "seed": 1007, "parts": 1000}
_CHANGED = {"kind": "simulated", "seed": 7, "parts": 175, "defect_rate": 0.1}
_CONTRAST = {"kind": "contrast", "from_part": 50, "severity": 5.0}
RECORDED = {
    "known": {"kind": "simulated", "seed": 1008, "parts": 150, "defect_rate": 0.85, "burst_rate": 0.0},
    "recording-1": {**_CHANGED, "conditions": [_CONTRAST]},
    "recording-2": {
        **_CHANGED,
        "conditions": [{"kind": "dim", "from_part": 60, "severity": 4.0, "ramp_parts": 30}],
    },
}
LEARNS = {
    "recipe": "line",
    "camera": {**_CHANGED, "parts": None, "fps": 15, "conditions": [_CONTRAST]},
    "adaptation": {"every_frames": 50, "duty": 1.0},
}

OTHER = """\
version: 1
agent: {id: cell-7, data_dir: data}
model: {engine: auto, bundle: bundle, threads: 2}
mqtt: {host: broker.example, protocol: 311, username: "${env:CAM_USER}", password: "${file:cam_password}",
       topic_prefix: plant/hall, commands: {enabled: true, allow: ["*"], response_topics: ["mes/#"]}}
sparkplug: {enabled: true, group_id: hall, host_id: scada}
recipes:
  housing:
    templates: ["a photo of {}"]
    threshold: 0.4
    abstain_margin: 0.1
    votes: {k: 2, n: 3}
    classes:
      good: {verdict: pass, phrases: ["a flawless metal housing"]}
      scratch: {verdict: fail, severity: critical, phrases: ["a metal housing with a scratch"]}
station_defaults:
  quality: {stale_s: 1.0, min_sharpness: 20.0}
stations:
  top:
    camera: {kind: simulated, seed: 3, conditions: [{kind: glare, from_part: 9, to_part: 20, severity: 2}]}
    recipe: housing
    roi: {crop: [0.1, 0.1, 0.9, 0.9], masks: {belt: [[0.0, 0.9], [1.0, 0.9], [1.0, 1.0]]}}
    adaptation: {mode: shadow, level: operating_point, bound: 4.0}
  press:
    camera: {kind: simulated, fps: 2}
    recipe: steel-neu
    trigger: {mode: mqtt, deadline_ms: 300}
    images: {last_fail: true}
inspector: {batch: 2}
storage: {keep_days: 30, images: {enabled: true, sampled_passes: 0.1}}
metrics: {enabled: true, port: 0}
homeassistant: {enabled: true}
log: {level: debug, format: json}
"""
"""A second config that uses every section, with other values and kinds than the shipped one."""

_GOOD = "version: 1\nstations:\n  line:\n    recipe: line\n    camera: {kind: simulated, parts: 5}\n"
FILES = {
    "broken.yaml": _GOOD + "  other: [1, 2\n",
    "wrong-type.yaml": _GOOD.replace("parts: 5", "parts: five, seed: 1.5"),
    "unknown-key.yaml": _GOOD + "storge: {keep_days: 3}\n",
    "unknown-recipe.yaml": _GOOD.replace("recipe: line", "recipe: lime"),
    "unknown-camera.yaml": _GOOD.replace("kind: simulated", "kind: magic"),
    "no-camera.yaml": _GOOD.replace("{kind: simulated, parts: 5}", "{kind: folder, path: nowhere}"),
    "no-secret.yaml": _GOOD + 'mqtt: {username: u, password: "${env:NOT_SET}"}\n',
    "newer.yaml": _GOOD.replace("version: 1", "version: 99"),
    "no-text.yaml": "",
    "list.yaml": "- 1\n",
    "twice.yaml": _GOOD + "version: 1\n",
    "text.txt": "no picture\n",
}
BAD_CONFIGS = (
    "missing.yaml", "empty", "broken.yaml", "wrong-type.yaml", "unknown-key.yaml", "unknown-recipe.yaml",
    "unknown-camera.yaml", "no-camera.yaml", "no-secret.yaml", "newer.yaml", "no-text.yaml", "list.yaml",
    "twice.yaml", "text.txt", "no-bundle.yaml", "bad-bundle.yaml", "bad-store.yaml", "bad-station.yaml",
    "bad-trail.yaml",
)  # fmt: skip
SOME_BAD_CONFIGS = ("missing.yaml", "bad-bundle.yaml", *BAD_CONFIGS[-3:])
"""All of them are for `check`; the others read a config by the same means."""
DAMAGED = {
    "bundle": ["image.onnx", "image.weights"],
    "store": ["mekiki.db"],
    "station": ["stations/line/commissioning.safetensors", "stations/line/adapters/000001.safetensors"],
    "trail": ["stations/line/audit.jsonl", "audit.jsonl"],
}

VERBS = {
    "run": """
        --frames 3 -c fresh.yaml
        --frames 0
        --strict --frames 3 -c fresh.yaml
        """,
    "record": """
        line --out recorded --frames 3
        line --out recorded --frames 3
        nowhere --out recorded-2
        line --out new/recorded
        line --out recorded-3 --seconds 0
        line --out recorded-3 --max-mb 0
        line --out text.txt --frames 3
        line
        """,
    "replay": """
        recording-1 --limit 3
        recording-1 --limit 3 --json -s line --from active
        bad-recording --limit 5 --json
        bad-manifest
        nowhere
        .
        text.txt
        recording-1 -s nowhere
        recording-1 --from yesterday
        recording-1 --limit 0
        recording-1 --plot absent/x.png
        recording-1 --limit 3 -c fresh.yaml
        """,
    "commission": """
        -s line
        -s line -c fresh.yaml
        -s nowhere
        -s line --parts 10
        -s line --false-rejects 2
        -s line --golden nowhere -c fresh.yaml
        -s line --golden text.txt -c fresh.yaml
        -s line --golden empty -c fresh.yaml
        -s line --golden pictures -c fresh.yaml
        """,
    "demo": """
        --fps -1
        --frames 0
        """,
    "check": """

        --print
        --diff
        --diff -c bad-bundle.yaml
        --installed
        --installed -c no-secret.yaml
        --installed -c no-camera.yaml
        """,
    "inspect": """
        pictures --station line
        pictures --recipe line --json
        pictures/damaged.png text.txt --recipe line --json
        pictures nowhere --recipe line
        empty --recipe line
        pictures --recipe nowhere
        pictures --station nowhere
        pictures
        pictures --recipe line --station line
        """,
    "status": """

        --json
        """,
    "doctor": """

        -c fresh.yaml
        """,
    "adapter list": """

        --json
        -s nowhere
        -c fresh.yaml
        """,
    "adapter show": """
        1
        0
        2
        99
        -1
        x
        1 -s nowhere
        1 -c fresh.yaml
        """,
    "adapter rollback": """
        1 --why golden
        0
        99
        1 -c fresh.yaml
        """,
    "adapter pin": """
        1
        0
        99
        """,
    "adapter unpin": """
        1
        0
        99
        """,
    "adapter freeze": """

        --why golden
        -c fresh.yaml
        """,
    "adapter resume": """

        -s nowhere
        """,
    "adapter reset": """

        -s nowhere
        """,
    "adapter export": """
        1 new.safetensors
        1 one.safetensors
        1 one.safetensors --force
        1 --out one.safetensors
        1 absent/one.safetensors
        0 zero.safetensors
        99 other.safetensors
        1
        """,
    "adapter verify": """

        --head 0
        -c fresh.yaml
        """,
    "adapter import": """
        one.safetensors
        one.safetensors --activate --why golden
        text.txt
        nowhere
        bad-station/stations/line/adapters/000001.safetensors
        one.safetensors -s nowhere
        """,
    "store check": """

        -c fresh.yaml
        """,
    "store purge": """
        --before 2020-01-01 --yes
        --keep-days 0 --dry-run
        --keep-days 0
        --before yesterday
        --before 2020-01-01 --keep-days 3
        -s nowhere --dry-run
        --keep-days 0 --images-only --yes
        """,
    "store export": """
        --out results.csv --force
        --out results.csv
        --out failed.csv --verdict fail -s line --force
        --out none.csv --from 2099-01-01
        --out x.csv --verdict maybe
        --out x.csv --format xml
        --out absent/x.csv
        """,
    "audit verify": """

        bad-trail
        data/stations/line/audit.jsonl
        nowhere
        empty
        --head 0
        --head agent=0
        --head nowhere=0
        """,
    "audit export": """
        --out trail.csv --force
        --out trail.csv
        --out trail.json --format json --force
        --out x.csv --from yesterday
        --out x.csv bad-trail
        --out x.csv nowhere
        --out absent/x.csv
        """,
    "bench engines": """
        --json -c no-bundle.yaml
        --json -c bad-bundle.yaml
        -c missing.yaml
        """,
    "model build": """
        NoSuchModel --out built
        NoSuchModel
        text.txt --out built --name ViT-B-32
        ViT-B-32 --checkpoint nowhere --out built
        """,
    "convert diffclip": """
        nowhere out.safetensors
        text.txt out.safetensors
        text.txt out.safetensors --lambda-init x
        text.txt
        """,
}
"""Lines of arguments by verb; the first is also tried with every bad config. Blank: no argument."""

RACY = frozenset({"run"})
"""What says when and how fast: lines without numbers, each once, in no order."""
MEASURES = frozenset({"bench engines"})
"""Only what is refused is tried."""
LIKE_ANOTHER = frozenset(
    {"adapter freeze", "adapter pin", "adapter reset", "adapter resume", "adapter unpin"}
)
"""They read a station as `adapter rollback` does, on which the bad configs are tried."""
NOT_ALONE = frozenset({"demo", "run"})
"""Without an argument they would go on for long."""
