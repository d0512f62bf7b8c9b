-- After an outage of the gateway, calls come back at about the rate that they had before it: see comanda/resilience/ramp.py.
-- `ramp_rate` is kept from the opening on; the others stand while the ramp lasts.
ALTER TABLE breakers
    ADD COLUMN ramp_rate    double precision,
    ADD COLUMN ramp_since   timestamptz,
    ADD COLUMN ramp_at      timestamptz,
    ADD COLUMN ramp_tokens  double precision,
    ADD COLUMN ramp_held_at timestamptz;
