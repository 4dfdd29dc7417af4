//! The foundation of heliograph.
