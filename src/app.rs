//! Wires all rooms together.
