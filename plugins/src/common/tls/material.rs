//! Certificates and keys out of PEM files.

use std::fs;
use std::io::Read;

use heliograph_core::config::Secret;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::TlsError;

/// Largest PEM file that is read; the bundles of whole systems are about 250 KiB.
const FILE_LIMIT: u64 = 16 << 20;

/// The certificates of a file, at least one.
pub(super) fn certificates(option: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = read(option, path)?;
    let fail = |reason: String| TlsError::Content { option, path: path.to_owned(), reason };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<_, _>>()
        .map_err(|error| fail(format!("broken PEM: {error:?}")))?;
    if found.is_empty() { Err(fail("it holds no certificate in PEM form".to_owned())) } else { Ok(found) }
}

/// The certificates of a file as the only ones that are trusted.
pub(super) fn add_roots(option: &'static str, path: &str, roots: &mut RootCertStore) -> Result<Roots, TlsError> {
    let found = certificates(option, path)?;
    for certificate in &found {
        roots.add(certificate.clone()).map_err(|error| TlsError::Content {
            option,
            path: path.to_owned(),
            reason: format!("a certificate in it cannot be read: {error}"),
        })?;
    }
    Ok(found)
}

/// Certificates that a user trusts by name of their file.
pub(super) type Roots = Vec<CertificateDer<'static>>;

/// A private key: PKCS#1, PKCS#8 or SEC1, or PKCS#8 encrypted with `password`.
pub(super) fn private_key(
    option: &'static str,
    path: &str,
    password: &Secret,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    let content = read(option, path)?;
    let fail = |reason: String| TlsError::Content { option, path: path.to_owned(), reason };
    let text = String::from_utf8_lossy(&content);
    if let Some(block) = encrypted_block(&text) {
        if password.is_empty() {
            return Err(fail("the key is encrypted; set `tls_key_pwd`".to_owned()));
        }
        let password = password.resolve().map_err(|error| fail(format!("no password for it: {error}")))?;
        return decrypt(block, password.as_bytes()).map_err(fail);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        let hint = "the key is encrypted in the old way of PKCS#1; convert it with `openssl pkcs8 -topk8`";
        return Err(fail(hint.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&content).map_err(|_| fail("it holds no private key in PEM form".to_owned()))
}

fn encrypted_block(text: &str) -> Option<&str> {
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let start = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----")?;
    let length = text[start..].find(END)? + END.len();
    Some(&text[start..start + length])
}

fn decrypt(block: &str, password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let (_, document) = pkcs8::SecretDocument::from_pem(block).map_err(|error| format!("broken PEM: {error}"))?;
    let encrypted = pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|error| format!("broken encrypted key: {error}"))?;
    let key = encrypted.decrypt(password).map_err(|error| {
        format!("cannot decrypt it with `tls_key_pwd`: {error}; the cipher must be AES-CBC or 3DES")
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn read(option: &'static str, path: &str) -> Result<Vec<u8>, TlsError> {
    let fail = |source| TlsError::Read { option, path: path.to_owned(), source };
    let mut content = Vec::new();
    fs::File::open(path).map_err(fail)?.take(FILE_LIMIT).read_to_end(&mut content).map_err(fail)?;
    Ok(content)
}
