//! IP packets as bytes: validate, describe, answer, rewrite. Pure: no descriptor, no clock, no log.
