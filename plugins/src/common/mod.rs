//! What several plugins share.
