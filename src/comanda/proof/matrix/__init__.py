"""The failure matrix: every failure caused once on a real instance, its recovery measured against a target."""
