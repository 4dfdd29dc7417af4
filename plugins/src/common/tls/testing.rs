//! Certificates made for a test, and a handshake over a pipe in memory.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{TlsClientOptions, TlsServerOptions};

/// An authority with a folder for its files, gone with it.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Paths of a certificate and its key.
pub(crate) struct Files {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("authority.test")
    }

    pub(crate) fn named(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        fs::write(folder.path().join("ca.key"), issuer.key().serialize_pem()).unwrap();
        Self { folder, issuer }
    }

    /// The file of its own certificate.
    pub(crate) fn path(&self) -> String {
        self.files().cert
    }

    /// Its own certificate and key.
    pub(crate) fn files(&self) -> Files {
        Files { cert: self.file("ca.pem"), key: self.file("ca.key") }
    }

    /// A certificate for `name`, signed by this authority.
    pub(crate) fn leaf(&self, name: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let files = Files { cert: self.file(&format!("{name}.pem")), key: self.file(&format!("{name}.key")) };
        fs::write(&files.cert, leaf.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

impl Files {
    /// The same with the key encrypted.
    pub(crate) fn encrypt(self, password: &str) -> Self {
        let pem = fs::read_to_string(&self.key).unwrap();
        let (_, plain) = pkcs8::SecretDocument::from_pem(&pem).unwrap();
        let info = pkcs8::PrivateKeyInfo::try_from(plain.as_bytes()).unwrap();
        let parameters =
            pkcs8::pkcs5::pbes2::Parameters::pbkdf2_sha256_aes256cbc(1000, b"saltsalt", b"0123456789abcdef").unwrap();
        let encrypted = info.encrypt_with_params(parameters, password).unwrap();
        fs::write(&self.key, encrypted.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap().as_bytes())
            .unwrap();
        self
    }
}

/// Connects both ends; the version that they agreed on, or what the first of them to fail said.
pub(crate) async fn handshake(
    client: &TlsClientOptions,
    server: &TlsServerOptions,
    host: &str,
) -> Result<String, String> {
    let connector = TlsConnector::from(client.client_config().unwrap().expect("configured"));
    let acceptor = TlsAcceptor::from(server.server_config().unwrap().expect("configured"));
    let name = client.server_name(host).unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let (near, far) = tokio::join!(connector.connect(name, near), async {
        // Of a TLS 1.3 client's certificate the client hears only with the first answer, so the server decides.
        let mut stream = acceptor.accept(far).await?;
        stream.flush().await?;
        std::io::Result::Ok(stream)
    });
    let near = near.map_err(|error| error.to_string())?;
    far.map_err(|error| error.to_string())?;
    Ok(format!("{:?}", near.get_ref().1.protocol_version().unwrap()))
}
