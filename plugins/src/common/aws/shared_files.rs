//! Profiles of the shared files `credentials` and `config`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

use super::{AwsError, Credentials};

const FILE_LIMIT: u64 = 1 << 20;

/// What a profile says: keys, region.
pub(super) type Profile = HashMap<String, String>;

/// The profile of this name in a file; in `config` files its heading is `[profile NAME]`. `None` if the file or the profile
/// is not there.
pub(super) fn read(path: &str, profile: &str) -> Result<Option<Profile>, AwsError> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_string(&mut text)) {
        Ok(_) => Ok(parse(&text, profile)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AwsError::File { path: path.to_owned(), source }),
    }
}

fn parse(text: &str, profile: &str) -> Option<Profile> {
    let (mut found, mut inside) = (None::<Profile>, false);
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(heading) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let name = heading.0.trim();
            inside = name.strip_prefix("profile ").unwrap_or(name).trim() == profile;
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        // Lines that are moved in belong to the value above, which none of our keys has.
        if !inside || trimmed.starts_with(['#', ';']) || line.starts_with(char::is_whitespace) {
            continue;
        }
        if let (Some((key, value)), Some(profile)) = (trimmed.split_once('='), found.as_mut()) {
            profile.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// The keys in a profile, if it has them.
pub(super) fn credentials(profile: &Profile) -> Option<Credentials> {
    let get = |key: &str| profile.get(key).filter(|value| !value.is_empty()).cloned();
    Some(Credentials {
        access_key: get("aws_access_key_id")?,
        secret_key: get("aws_secret_access_key")?,
        token: get("aws_session_token").unwrap_or_default(),
        until: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n# x\n\n[profile lab]\nregion = eu-west-1\n\
                        s3 =\n  region = no\n[ops]\naws_access_key_id=C\n";

    #[test]
    fn profiles() {
        let default = parse(TEXT, "default").unwrap();
        assert_eq!(
            credentials(&default).map(|found| (found.access_key, found.secret_key)),
            Some(("A".into(), "B".into()))
        );
        assert_eq!(parse(TEXT, "lab").unwrap()["region"], "eu-west-1");
        assert_eq!(credentials(&parse(TEXT, "ops").unwrap()), None);
        assert_eq!(parse(TEXT, "none"), None);
    }
}
