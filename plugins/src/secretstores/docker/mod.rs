//! Secrets in a folder of files, as Docker and Kubernetes mount them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use heliograph_core::config::{ConfigError, SecretError, SecretStore, SecretStoreSpec, Section};
use serde::Deserialize;

/// Largest secret, in bytes; Docker allows 500 kB, Kubernetes 1 MiB.
const MAX_BYTES: u64 = 1 << 20;

pub(super) static SPEC: SecretStoreSpec =
    SecretStoreSpec { name: "docker", sample: include_str!("sample.conf"), build };

fn build(section: Section) -> Result<Arc<dyn SecretStore>, ConfigError> {
    let place = section.position_of("path");
    let options: Options = section.finish()?;
    match fs::metadata(&options.path) {
        Ok(found) if found.is_dir() => Ok(Arc::new(Folder { path: options.path, dynamic: options.dynamic })),
        Ok(_) => Err(place.error(format!("option \"path\": {:?} is not a folder", options.path))),
        Err(error) => {
            let message = format!("option \"path\": cannot read the folder of secrets {:?}", options.path);
            Err(place.error(message).caused_by(error))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    path: PathBuf,
    dynamic: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { path: PathBuf::from("/run/secrets"), dynamic: false }
    }
}

/// A folder in which each file is a secret, named as the file.
struct Folder {
    path: PathBuf,
    dynamic: bool,
}

impl SecretStore for Folder {
    fn get(&self, key: &str) -> Result<Vec<u8>, SecretError> {
        if key.is_empty() || key == "." || key == ".." || key.contains(['/', '\0']) {
            return Err(SecretError::new(format!("{key:?} cannot be the name of a secret, it must be a file name")));
        }
        let path = self.path.join(key);
        read(&path).map_err(|error| SecretError::new(format!("cannot read {}: {error}", path.display())))
    }

    fn list(&self) -> Result<Vec<String>, SecretError> {
        let cannot = |error: io::Error| SecretError::new(format!("cannot list {}: {error}", self.path.display()));
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            // Kubernetes mounts each secret as a link; what counts is where it leads.
            let is_file = fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
            if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn is_dynamic(&self) -> bool {
        self.dynamic
    }
}

/// The content of a file, as it is: also a line break at the end belongs to the secret.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::open(path)?, MAX_BYTES + 1), &mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dynamic: bool) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("user"), "alice").unwrap();
        fs::write(dir.path().join("pass_word"), "s3cret\n").unwrap();
        fs::create_dir(dir.path().join("..2024_01_01")).unwrap();
        fs::write(dir.path().join("..2024_01_01/token"), "t").unwrap();
        std::os::unix::fs::symlink("..2024_01_01/token", dir.path().join("token")).unwrap();
        let folder = Folder { path: dir.path().to_owned(), dynamic };
        (dir, folder)
    }

    #[test]
    fn reads_files_verbatim() {
        let (_dir, folder) = folder(false);
        assert_eq!(folder.get("user").unwrap(), b"alice");
        assert_eq!(folder.get("pass_word").unwrap(), b"s3cret\n");
        assert_eq!(folder.get("token").unwrap(), b"t");
        assert_eq!(folder.list().unwrap(), ["pass_word", "token", "user"]);
    }

    #[test]
    fn refuses_other_names() {
        let (_dir, folder) = folder(false);
        for key in ["", ".", "..", "../x", "a/b", "/etc/passwd"] {
            assert!(folder.get(key).unwrap_err().to_string().contains("file name"), "{key}");
        }
        assert!(folder.get("missing").unwrap_err().to_string().contains("missing: No such file"));
        assert!(folder.set("user", b"x").is_err() && folder.remove("user").is_err());
    }

    #[test]
    fn a_rotated_secret_is_read_again_if_dynamic() {
        let (dir, folder) = folder(true);
        assert!(folder.is_dynamic());
        fs::write(dir.path().join("user"), "bob").unwrap();
        assert_eq!(folder.get("user").unwrap(), b"bob");
    }

    #[test]
    fn the_default_needs_the_usual_folder() {
        assert_eq!(Options::default().path, Path::new("/run/secrets"));
        assert!(!Options::default().dynamic);
    }
}
