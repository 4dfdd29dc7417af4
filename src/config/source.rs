//! Where configuration comes from: files, folders, addresses, and the usual places.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use heliograph_core::config::ConfigError;
use heliograph_core::error::Chain;
use tracing::{error, warn};

use super::environment::Lookup;

/// Largest configuration that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Wait between attempts to fetch from an address.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// How long a server may take to say when a configuration was modified.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// One configuration to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file.
    File(PathBuf),
    /// An `http` or `https` address.
    Url(String),
}

impl Location {
    /// A file, or an address if it begins with a scheme.
    ///
    /// # Errors
    /// For a scheme other than `http` and `https`.
    pub fn parse(text: &str) -> Result<Location, ConfigError> {
        match text.split_once("://") {
            Some(("http" | "https", _)) => Ok(Location::Url(text.to_owned())),
            Some((scheme, _)) if heliograph_core::config::is_word(scheme) => Err(ConfigError::of_file(
                &without_credentials(text),
                format!("scheme {scheme:?} is not supported, only http and https"),
            )),
            _ => Ok(Location::File(PathBuf::from(text))),
        }
    }

    /// As it is logged and shown in messages: credentials in an address are left out.
    #[must_use]
    pub fn display(&self) -> String {
        match self {
            Location::File(path) => path.display().to_string(),
            Location::Url(url) => without_credentials(url),
        }
    }
}

fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// All configurations to load, in order: those named, then those of the folders, or the usual places. Folders within a
/// folder that cannot be read are left out with a warning.
///
/// # Errors
/// If a named folder cannot be listed, an address has an unknown scheme, or nothing is found.
pub fn locate(configs: &[String], directories: &[String], lookup: Lookup<'_>) -> Result<Vec<Location>, ConfigError> {
    let found = Found::new(|path, error| {
        warn!(path = %path.display(), %error, "not permitted to read a configuration folder");
    });
    found.locate(configs, directories, lookup)
}

/// [`locate`] without warnings, for looking again and again.
///
/// # Errors
/// As `locate`.
pub fn locate_quietly(
    configs: &[String],
    directories: &[String],
    lookup: Lookup<'_>,
) -> Result<Vec<Location>, ConfigError> {
    Found::new(|_, _| {}).locate(configs, directories, lookup)
}

/// What was found so far, and who is told of folders that cannot be read.
struct Found<W> {
    locations: Vec<Location>,
    warn: W,
}

impl<W: FnMut(&Path, io::Error)> Found<W> {
    fn new(warn: W) -> Self {
        Self { locations: Vec::new(), warn }
    }

    fn locate(
        mut self,
        configs: &[String],
        directories: &[String],
        lookup: Lookup<'_>,
    ) -> Result<Vec<Location>, ConfigError> {
        for config in configs {
            self.locations.push(Location::parse(config)?);
        }
        for directory in directories {
            self.walk_top(Path::new(directory), directory.ends_with('/'))?;
        }
        if self.locations.is_empty() { self.usual_places(lookup) } else { Ok(self.locations) }
    }

    fn usual_places(mut self, lookup: Lookup<'_>) -> Result<Vec<Location>, ConfigError> {
        if let Some(path) = lookup("TELEGRAF_CONFIG_PATH").filter(|path| !path.is_empty()) {
            match Location::parse(&path)? {
                Location::File(path) if !path.exists() => {}
                location => return Ok(vec![location]),
            }
        }
        if let Some(home) = lookup("HOME").filter(|home| !home.is_empty()) {
            let path = Path::new(&home).join(".telegraf/telegraf.conf");
            if path.exists() {
                return Ok(vec![Location::File(path)]);
            }
        }
        for name in ["heliograph", "telegraf"] {
            let folder = Path::new("/etc").join(name);
            let file = folder.join(format!("{name}.conf"));
            if file.exists() {
                self.locations.push(Location::File(file));
            }
            let more = folder.join(format!("{name}.d"));
            if more.is_dir() {
                self.walk_top(&more, false)?;
            }
            if !self.locations.is_empty() {
                return Ok(self.locations);
            }
        }
        Err(ConfigError::new(
            "no configuration file found: name one with --config, or put it at /etc/heliograph/heliograph.conf or \
         /etc/telegraf/telegraf.conf",
        ))
    }

    /// Collects the files of a folder. A link to a folder is followed only if it was written with a slash at its end.
    fn walk_top(&mut self, folder: &Path, slash: bool) -> Result<(), ConfigError> {
        let wrong = |error: io::Error| {
            ConfigError::of_file(&folder.display().to_string(), "cannot read the configuration folder").caused_by(error)
        };
        let link = fs::symlink_metadata(folder).map_err(wrong)?.is_symlink();
        if (link && !slash) || is_hidden_version(folder) {
            return Ok(());
        }
        if !fs::metadata(folder).map_err(wrong)?.is_dir() {
            // A file in the place of a folder is walked as itself.
            if is_config(folder) {
                self.locations.push(Location::File(folder.to_owned()));
            }
            return Ok(());
        }
        let entries = sorted(folder).map_err(wrong)?;
        for entry in entries {
            self.walk(&entry);
        }
        Ok(())
    }

    fn walk(&mut self, path: &Path) {
        let listed = fs::symlink_metadata(path).and_then(|meta| {
            if !meta.is_dir() {
                if is_config(path) {
                    self.locations.push(Location::File(path.to_owned()));
                }
                return Ok(Vec::new());
            }
            if is_hidden_version(path) { Ok(Vec::new()) } else { sorted(path) }
        });
        match listed {
            Ok(entries) => entries.iter().for_each(|entry| self.walk(entry)),
            Err(error) => (self.warn)(path, error),
        }
    }
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// True for names that end in `.conf` and have something before it.
fn is_config(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.len() >= 6 && name.as_encoded_bytes().ends_with(b".conf"))
}

/// True for the versioned folders of Kubernetes volumes, `..2024_01_01…`; their files are reached by links.
fn is_hidden_version(path: &Path) -> bool {
    match path.file_name() {
        Some(name) => name.as_encoded_bytes().starts_with(b".."),
        // `..` itself has no file name.
        None => path.ends_with(".."),
    }
}

/// Reads a configuration; `retries` are further attempts to fetch it from an address (0 for 3, -1 for no end).
///
/// # Errors
/// If it cannot be read or fetched, is too large, or is no text.
pub async fn read(location: &Location, retries: i64, lookup: Lookup<'_>) -> Result<Vec<u8>, ConfigError> {
    match location {
        Location::File(path) => read_file(path),
        Location::Url(url) => fetch(url, retries, RETRY_DELAY, lookup).await,
    }
}

/// Reads a file; it must be text.
fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let name = path.display().to_string();
    let cannot = |error: io::Error| ConfigError::of_file(&name, "cannot read the configuration").caused_by(error);
    let file = fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_BYTES + 1), &mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ConfigError::of_file(&name, format!("the configuration is larger than {MAX_BYTES} bytes")));
    }
    if let Some(kind) = not_text(&bytes) {
        return Err(ConfigError::of_file(&name, format!("not a TOML file: it looks like {kind}")));
    }
    Ok(bytes)
}

/// What the first 512 bytes are if they are not plain text.
fn not_text(bytes: &[u8]) -> Option<&'static str> {
    const HTML: &[&[u8]] = &[
        b"<!DOCTYPE HTML",
        b"<HTML",
        b"<HEAD",
        b"<SCRIPT",
        b"<IFRAME",
        b"<H1",
        b"<DIV",
        b"<FONT",
        b"<TABLE",
        b"<A",
        b"<STYLE",
        b"<TITLE",
        b"<B",
        b"<BODY",
        b"<BR",
        b"<P",
    ];
    let head = &bytes[..bytes.len().min(512)];
    let trimmed = head.trim_ascii_start();
    let is_html = HTML.iter().any(|tag| {
        trimmed.len() > tag.len()
            && trimmed[..tag.len()].eq_ignore_ascii_case(tag)
            && matches!(trimmed[tag.len()], b' ' | b'>')
    });
    if is_html || trimmed.starts_with(b"<!--") {
        Some("HTML")
    } else if trimmed.starts_with(b"<?xml") {
        Some("XML")
    } else if head.starts_with(b"%PDF-") {
        Some("PDF")
    } else if head.starts_with(b"%!PS-Adobe-") {
        Some("PostScript")
    } else if head.starts_with(&[0xFE, 0xFF]) || head.starts_with(&[0xFF, 0xFE]) {
        Some("UTF-16 text, which has to be converted to UTF-8")
    } else if head.iter().any(|byte| matches!(byte, 0..=0x08 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1F)) {
        Some("binary data")
    } else {
        None
    }
}

/// The client that configurations are fetched with: with the proxies of the environment, without a deadline.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().user_agent(concat!("heliograph/", env!("CARGO_PKG_VERSION"))).build()
}

/// Fetches a configuration, with `retries` further attempts (0 for 3, -1 for no end) `delay` apart.
///
/// A TLS provider must be installed for the process.
async fn fetch(url: &str, retries: i64, delay: Duration, lookup: Lookup<'_>) -> Result<Vec<u8>, ConfigError> {
    let shown = without_credentials(url);
    let client = client().map_err(|error| ConfigError::of_file(&shown, "cannot set up HTTP").caused_by(error))?;
    fetch_with(&client, url, retries, delay, lookup).await
}

async fn fetch_with(
    client: &reqwest::Client,
    url: &str,
    retries: i64,
    delay: Duration,
    lookup: Lookup<'_>,
) -> Result<Vec<u8>, ConfigError> {
    let shown = without_credentials(url);
    let retries = match retries {
        0 => Some(3),
        -1 => None,
        count => Some(u64::try_from(count).map_err(|_| {
            let message = format!("config_url_retry_attempts is {count}, but must be -1 (no end) or more");
            ConfigError::of_file(&shown, message)
        })?),
    };
    let mut attempt = 0;
    loop {
        let problem = match request(client, url, lookup).await {
            Ok(bytes) => return Ok(bytes),
            Err(problem) => problem,
        };
        if retries.is_some_and(|retries| attempt >= retries) {
            let message = format!("cannot fetch the configuration in {} attempts: {problem}", attempt + 1);
            return Err(ConfigError::of_file(&shown, message));
        }
        attempt += 1;
        error!(url = shown, error = problem, attempt, "cannot fetch the configuration, trying again");
        tokio::time::sleep(delay).await;
    }
}

/// Asks for the `Last-Modified` of the configuration at an address; `None` if the server does not say.
///
/// # Errors
/// If the server does not answer in time, or not with 200.
pub async fn last_modified(client: &reqwest::Client, url: &str, lookup: Lookup<'_>) -> Result<Option<String>, String> {
    let request = client.head(url).timeout(HEAD_TIMEOUT);
    let response = send(request, lookup).await?;
    let header = response.headers().get(reqwest::header::LAST_MODIFIED);
    Ok(header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()))
}

/// What went wrong, without the address: it may hold credentials.
fn describe(error: reqwest::Error) -> String {
    Chain(&error.without_url()).to_string()
}

/// Sends a request with what identifies us to the server.
async fn send(request: reqwest::RequestBuilder, lookup: Lookup<'_>) -> Result<reqwest::Response, String> {
    let mut request = request.header("Accept", "application/toml");
    if let Some(token) = lookup("TELEGRAF_CONTROLLER_TOKEN") {
        request = request.header("Authorization", format!("Bearer {token}"));
    } else if let Some(token) = lookup("INFLUX_TOKEN") {
        request = request.header("Authorization", format!("Token {token}"));
    }
    let response = request.send().await.map_err(describe)?;
    match response.status() {
        reqwest::StatusCode::OK => Ok(response),
        status => Err(format!("the server answered {status}")),
    }
}

async fn request(client: &reqwest::Client, url: &str, lookup: Lookup<'_>) -> Result<Vec<u8>, String> {
    let mut response = send(client.get(url), lookup).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(describe)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!("the configuration is larger than {MAX_BYTES} bytes"));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn write(folder: &Path, name: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    /// The files found, relative to the folder.
    fn found(folder: &Path) -> Vec<String> {
        let locations = locate(&[], &[folder.display().to_string()], &nothing).unwrap_or_default();
        let relative = |location: &Location| location.display().replace(&format!("{}/", folder.display()), "");
        locations.iter().map(relative).collect()
    }

    #[test]
    fn walks_folders() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        for name in [
            "10-a.conf",
            "15-sub/nested.conf",
            "15-sub/deep/er.conf",
            "20-b.conf",
            "5.conf",
            "UPPER.CONF",
            "notes.txt",
            "old.conf.bak",
            ".conf",
            ".dot/x.conf",
            ".hidden.conf",
            "..2024_01_01/y.conf",
            "z.conf/in.conf",
        ] {
            write(folder, name);
        }
        std::os::unix::fs::symlink("..2024_01_01", folder.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/y.conf", folder.join("linked.conf")).unwrap();
        std::os::unix::fs::symlink("15-sub", folder.join("linkdir")).unwrap();
        assert_eq!(
            found(folder),
            [
                ".dot/x.conf",
                ".hidden.conf",
                "10-a.conf",
                "15-sub/deep/er.conf",
                "15-sub/nested.conf",
                "20-b.conf",
                "5.conf",
                "linked.conf",
                "z.conf/in.conf",
            ]
        );
        // A link to a folder is followed only with a slash at its end.
        let mut found = Found::new(|path, error| panic!("{}: {error}", path.display()));
        found.walk_top(&folder.join("linkdir"), false).unwrap();
        assert!(found.locations.is_empty());
        found.walk_top(&folder.join("linkdir/"), true).unwrap();
        assert_eq!(found.locations.len(), 2);
    }

    #[test]
    fn names_what_is_missing() {
        let error = locate(&[], &["/no/such/folder".to_owned()], &nothing).unwrap_err();
        assert!(error.line().starts_with("/no/such/folder: "), "{error}");
        let error = locate(&["ftp://x/y".to_owned()], &[], &nothing).unwrap_err();
        assert!(error.line().contains("\"ftp\""), "{error}");
        let error = read_file(Path::new("/no/such.conf")).unwrap_err();
        assert!(error.line().starts_with("/no/such.conf: cannot read"), "{error}");
    }

    #[test]
    fn usual_places_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ".telegraf/telegraf.conf");
        write(dir.path(), "named.conf");
        let home = dir.path().display().to_string();
        let named = format!("{home}/named.conf");
        let with = |path: Option<&str>| {
            let path = path.map(str::to_owned);
            let home = home.clone();
            move |name: &str| match name {
                "TELEGRAF_CONFIG_PATH" => path.clone(),
                "HOME" => Some(home.clone()),
                _ => None,
            }
        };
        assert_eq!(locate(&[], &[], &with(Some(&named))).unwrap(), [Location::File(named.clone().into())]);
        let at_home = || Location::File(dir.path().join(".telegraf/telegraf.conf"));
        assert_eq!(locate(&[], &[], &with(Some("/no/such"))).unwrap(), [at_home()]);
        assert_eq!(locate(&[], &[], &with(None)).unwrap(), [at_home()]);
        let url = "https://example.com/t.conf";
        assert_eq!(locate(&[], &[], &with(Some(url))).unwrap(), [Location::Url(url.to_owned())]);
    }

    #[test]
    fn tells_text_from_other_content() {
        assert_eq!(not_text(b""), None);
        assert_eq!(not_text("\u{feff}# caf\u{e9}\r\n\t[agent]".as_bytes()), None);
        assert_eq!(not_text(b"a = \"\xff\""), None);
        assert_eq!(not_text(b"\n <!doctype html><p>"), Some("HTML"));
        assert_eq!(not_text(b"<?xml version"), Some("XML"));
        assert_eq!(not_text(b"%PDF-1.7"), Some("PDF"));
        assert_eq!(not_text(b"\x7fELF\x02\x01"), Some("binary data"));
        assert_eq!(not_text(b"\xff\xfe[\0"), Some("UTF-16 text, which has to be converted to UTF-8"));
    }

    #[test]
    fn credentials_are_not_shown() {
        let shown = |url: &str| Location::parse(url).unwrap().display();
        assert_eq!(shown("https://user:pw@host/x?y=@"), "https://host/x?y=@");
        assert_eq!(shown("http://host/a@b"), "http://host/a@b");
    }

    /// Serves the answers one after the other, and keeps the requests.
    async fn server(answers: Vec<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:pw@{}/telegraf.conf", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                kept.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).to_lowercase());
                let head = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 7\r\n\r\n[agent]");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        });
        (url, requests)
    }

    async fn fetched(answers: Vec<&'static str>, retries: i64) -> (Result<Vec<u8>, String>, Vec<String>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (url, requests) = server(answers).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let token = |name: &str| (name == "INFLUX_TOKEN").then(|| "t0ken".to_owned());
        let result = fetch_with(&client, &url, retries, Duration::ZERO, &token).await;
        let requests = requests.lock().unwrap().clone();
        (result.map_err(|error| error.line()), requests)
    }

    #[tokio::test]
    async fn fetches_with_retries() {
        let (result, requests) = fetched(vec!["503 Busy", "404 Not Found", "200 OK"], 2).await;
        assert_eq!(result.unwrap(), b"[agent]");
        assert_eq!(requests.len(), 3);
        assert!(requests[0].contains("accept: application/toml"), "{}", requests[0]);
        assert!(requests[0].contains("authorization: token t0ken"), "{}", requests[0]);
    }

    #[tokio::test]
    async fn gives_up() {
        let (result, requests) = fetched(vec!["503 Busy"; 4], 0).await;
        let error = result.unwrap_err();
        assert_eq!(requests.len(), 4);
        assert!(error.contains("in 4 attempts: the server answered 503") && !error.contains("pw@"), "{error}");
        let (result, _) = fetched(vec![], -2).await;
        assert!(result.unwrap_err().contains("-2"));
    }
}
