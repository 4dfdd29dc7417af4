//! The heliograph agent.

fn main() {}
