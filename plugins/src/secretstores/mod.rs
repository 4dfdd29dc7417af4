//! Secret stores: where options of type secret are read from.

mod docker;
mod os;

use heliograph_core::config::SecretStoreSpec;

/// Every secret store, sorted by name.
pub static ALL: &[&SecretStoreSpec] = &[&docker::SPEC, &os::SPEC];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_documented() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
        for spec in ALL {
            let header = format!("[[secretstores.{}]]", spec.name);
            assert!(spec.sample.contains(&header), "{}", spec.name);
        }
    }
}
