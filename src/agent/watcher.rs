//! Watches the configuration for changes: files (`--watch-config`) and addresses (`--config-url-watch-interval`).
//!
//! Whatever tells of a change is only a reason to look: what counts is whether files are there and which versions of
//! them. So links that are swapped, as Kubernetes does with its volumes, editors that replace a file, and events that
//! come twice or too early need no rules of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::config::{
    LoadOptions, Location, Lookup, Version, client, last_modified, locate_quietly, process_environment,
};
use crate::logging::MAIN;

/// What to watch, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Whether and how files are watched.
    pub files: Option<Watch>,
    /// Quiet time after a change of a file before the reload; zero for none.
    pub debounce: Duration,
    /// How often addresses are looked at; `None` for never.
    pub addresses: Option<Duration>,
}

/// How configuration files are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The system tells of changes.
    Notify,
    /// The files are looked at this often.
    Poll(Duration),
}

/// How long a file may be gone, as some writers remove it before they write it anew.
const GONE: Duration = Duration::from_secs(1);
/// Between being told of a change and looking: events come in swarms.
const PAUSE: Duration = Duration::from_millis(20);
/// Most links that are followed from one file.
const MAX_LINKS: usize = 40;

/// Everything that is watched.
pub struct Watcher<'a> {
    files: Option<Files<'a>>,
    addresses: Option<Addresses>,
}

impl<'a> Watcher<'a> {
    /// Watches what the configuration was read from.
    pub fn new(options: &WatchOptions, load: &'a LoadOptions, sources: &[(Location, Option<Version>)]) -> Self {
        let mut watcher = Self {
            files: options.files.map(|how| Files::new(load, &process_environment, how, options.debounce)),
            addresses: options.addresses.and_then(Addresses::new),
        };
        watcher.follow(sources);
        watcher
    }

    /// Goes on with what another configuration was read from.
    pub fn follow(&mut self, sources: &[(Location, Option<Version>)]) {
        if let Some(files) = &mut self.files {
            files.follow(sources);
        }
        if let Some(addresses) = &mut self.addresses {
            addresses.follow(sources);
        }
    }

    /// Waits for a change that is worth a reload. One that is not waited for to the end is found again.
    pub async fn changed(&mut self) {
        let Self { files, addresses } = self;
        tokio::select! {
            Some(()) = maybe(files.as_mut().map(Files::changed)) => {}
            Some(()) = maybe(addresses.as_mut().map(Addresses::changed)) => {}
            else => std::future::pending().await,
        }
    }
}

async fn maybe(future: Option<impl Future<Output = ()>>) -> Option<()> {
    future?.await;
    Some(())
}

type Versions = BTreeMap<PathBuf, Version>;

/// The files of a configuration.
struct Files<'a> {
    load: &'a LoadOptions,
    lookup: Lookup<'a>,
    how: Watch,
    debounce: Duration,
    /// As they were when they were loaded, or when a reload was last asked for.
    seen: Versions,
    /// Folders that cannot be watched, which was said.
    unwatchable: BTreeSet<PathBuf>,
}

/// What ends a wait.
enum Events {
    Inotify(AsyncFd<OwnedFd>),
    Every(Duration),
    /// Nothing can be watched.
    None,
}

impl<'a> Files<'a> {
    fn new(load: &'a LoadOptions, lookup: Lookup<'a>, how: Watch, debounce: Duration) -> Self {
        Self { load, lookup, how, debounce, seen: Versions::new(), unwatchable: BTreeSet::new() }
    }

    fn follow(&mut self, sources: &[(Location, Option<Version>)]) {
        let file = |(location, version): &(Location, Option<Version>)| match location {
            Location::File(path) => Some((path.clone(), (*version)?)),
            Location::Url(_) => None,
        };
        self.seen = sources.iter().filter_map(file).collect();
    }

    async fn changed(&mut self) {
        let seen = self.seen.clone();
        let mut now = self.change_since(&seen).await;
        while !self.debounce.is_zero()
            && let Ok(newer) = timeout(self.debounce, self.change_since(&now)).await
        {
            now = newer;
        }
        if seen.keys().any(|path| !now.contains_key(path)) {
            sleep(GONE).await;
            now = self.look();
        }
        info!(target: MAIN, "Configuration files have changed");
        self.seen = now;
    }

    /// Waits until the files are others than `seen`.
    async fn change_since(&mut self, seen: &Versions) -> Versions {
        loop {
            // Armed before looking, so that nothing happens unseen in between.
            let mut events = self.arm();
            let now = self.look();
            if now != *seen {
                return now;
            }
            events.next().await;
        }
    }

    /// The files that a load would read now.
    fn look(&self) -> Versions {
        let LoadOptions { configs, directories, .. } = self.load;
        // Where a folder is missing nothing could be loaded.
        let locations = locate_quietly(configs, directories, self.lookup).unwrap_or_default();
        let file = |location| match location {
            Location::File(path) => Version::of(&path).map(|version| (path, version)),
            Location::Url(_) => None,
        };
        locations.into_iter().filter_map(file).collect()
    }

    fn arm(&mut self) -> Events {
        match self.how {
            Watch::Poll(every) => Events::Every(every),
            Watch::Notify => self.inotify().unwrap_or_else(|error| {
                if self.unwatchable.insert(PathBuf::new()) {
                    warn!(target: MAIN, error = %error, "cannot watch configuration files; use --watch-config poll");
                }
                Events::None
            }),
        }
    }

    /// Watches every folder in which something can happen to a file.
    fn inotify(&mut self) -> io::Result<Events> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // Not `MODIFY`: a file that is being written is worth a look once it is closed.
        let events = WatchFlags::ONLYDIR
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF;
        for folder in self.folders() {
            if let Err(error) = inotify::add_watch(&inotify, &folder, events)
                && !self.unwatchable.contains(&folder)
            {
                warn!(target: MAIN, path = %folder.display(), error = %error, "cannot watch for changes");
                self.unwatchable.insert(folder);
            }
        }
        #[expect(deprecated, reason = "unsound for types without a descriptor of their own, which this one has")]
        let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)?;
        Ok(Events::Inotify(inotify))
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        let named = self.load.configs.iter().filter(|config| !config.contains("://")).map(Path::new);
        for path in named.chain(self.seen.keys().map(PathBuf::as_path)) {
            folders_towards(path, &mut folders, &mut 0);
        }
        for directory in &self.load.directories {
            folders_towards(Path::new(directory), &mut folders, &mut 0);
            folders_within(Path::new(directory), &mut folders);
        }
        folders
    }
}

/// The folder that a file is in, and those of the links on the way to it.
fn folders_towards(path: &Path, folders: &mut BTreeSet<PathBuf>, links: &mut usize) {
    folders.insert(parent(path));
    for step in path.ancestors() {
        if *links < MAX_LINKS
            && let Ok(target) = fs::read_link(step)
            && let Ok(rest) = path.strip_prefix(step)
        {
            *links += 1;
            folders.insert(parent(step));
            folders_towards(&parent(step).join(target).join(rest), folders, links);
        }
    }
}

/// A folder and those in it, as far as they are searched for files.
fn folders_within(folder: &Path, folders: &mut BTreeSet<PathBuf>) {
    folders.insert(folder.to_owned());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_version = entry.file_name().as_encoded_bytes().starts_with(b"..");
        if !is_version && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders_within(&entry.path(), folders);
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != "" => parent.to_owned(),
        // Of a bare name, and of the root, which contains itself.
        _ => if path.is_absolute() { "/" } else { "." }.into(),
    }
}

impl Events {
    async fn next(&mut self) {
        match self {
            Self::Inotify(inotify) => {
                if inotify.readable().await.is_err() {
                    return std::future::pending().await;
                }
                sleep(PAUSE).await;
            }
            Self::Every(interval) => sleep(*interval).await,
            Self::None => std::future::pending().await,
        }
    }
}

/// The addresses of a configuration.
struct Addresses {
    client: reqwest::Client,
    every: Duration,
    due: Instant,
    /// When each was last modified, by its own account; `None` as long as it was not asked.
    seen: Vec<(String, Option<String>)>,
    /// One of them has changed, and nobody was told.
    changed: bool,
}

impl Addresses {
    fn new(every: Duration) -> Option<Self> {
        match client() {
            Ok(client) => Some(Self { client, every, due: Instant::now() + every, seen: Vec::new(), changed: false }),
            Err(error) => {
                error!(target: MAIN, error = %error, "cannot set up HTTP, addresses are not watched");
                None
            }
        }
    }

    fn follow(&mut self, sources: &[(Location, Option<Version>)]) {
        let before = std::mem::take(&mut self.seen);
        for (location, _) in sources {
            if let Location::Url(url) = location {
                let known = before.iter().find(|(known, _)| known == url).and_then(|(_, seen)| seen.clone());
                self.seen.push((url.clone(), known));
            }
        }
    }

    async fn changed(&mut self) {
        if self.seen.is_empty() {
            return std::future::pending().await;
        }
        loop {
            sleep_until(self.due).await;
            for (url, seen) in &mut self.seen {
                self.changed |= has_changed(&self.client, url, seen, &process_environment).await;
            }
            self.due = Instant::now() + self.every;
            if std::mem::take(&mut self.changed) {
                return;
            }
        }
    }
}

/// Asks when an address was modified; whether that is another time than the one before.
async fn has_changed(client: &reqwest::Client, url: &str, seen: &mut Option<String>, lookup: Lookup<'_>) -> bool {
    let shown = Location::Url(url.to_owned()).display();
    match last_modified(client, url, lookup).await {
        Ok(Some(now)) => {
            let before = seen.replace(now);
            let changed = before.is_some() && before != *seen;
            if changed {
                info!(target: MAIN, url = shown, "Configuration has changed");
            }
            changed
        }
        Ok(None) => {
            error!(target: MAIN, url = shown, "cannot watch the configuration: no Last-Modified in the server's answer");
            false
        }
        Err(error) => {
            error!(target: MAIN, url = shown, error, "cannot see whether the configuration has changed");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const POLL: Watch = Watch::Poll(Duration::from_millis(250));

    fn nothing(_: &str) -> Option<String> {
        None
    }

    /// A folder with a configuration by itself, one in a folder, and one as Kubernetes mounts it.
    fn folder() -> (tempfile::TempDir, LoadOptions) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("t.conf"), "a").unwrap();
        fs::create_dir_all(path("more/deep")).unwrap();
        fs::write(path("more/deep/m.conf"), "m").unwrap();
        for version in ["..1", "..2"] {
            fs::create_dir_all(path("volume").join(version)).unwrap();
            fs::write(path("volume").join(version).join("v.conf"), "v").unwrap();
        }
        symlink("..1", path("volume/..data")).unwrap();
        symlink("..data/v.conf", path("volume/v.conf")).unwrap();
        let text = |name: &str| path(name).display().to_string();
        let (configs, directories) = (vec![text("t.conf"), text("volume/v.conf")], vec![text("more")]);
        (folder, LoadOptions { configs, directories, ..LoadOptions::default() })
    }

    fn watch(load: &LoadOptions, how: Watch, debounce: Duration) -> Files<'_> {
        let mut files = Files::new(load, &nothing, how, debounce);
        files.seen = files.look();
        assert_eq!(files.seen.len(), 3);
        files
    }

    /// Makes a change while the files are watched, and waits until it is seen; that it is not seen twice, too.
    async fn is_seen(change: impl Fn(&Path)) {
        for how in [Watch::Notify, POLL] {
            let (folder, load) = folder();
            let mut files = watch(&load, how, Duration::ZERO);
            let seen = async { tokio::join!(files.changed(), async { change(folder.path()) }) };
            timeout(Duration::from_secs(30), seen).await.unwrap();
            assert_eq!(files.changed().now_or_never(), None);
            assert!(files.unwatchable.is_empty());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_written() {
        is_seen(|folder| fs::write(folder.join("t.conf"), "longer").unwrap()).await;
        is_seen(|folder| fs::write(folder.join("t.conf"), "").unwrap()).await;
        is_seen(|folder| fs::write(folder.join("more/deep/m.conf"), "longer").unwrap()).await;
    }

    #[tokio::test]
    async fn a_file_that_is_replaced() {
        is_seen(|folder| {
            fs::write(folder.join("new"), "a").unwrap();
            fs::rename(folder.join("new"), folder.join("t.conf")).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_volume_of_kubernetes_that_is_updated() {
        is_seen(|folder| {
            symlink("..2", folder.join("volume/..data_tmp")).unwrap();
            fs::rename(folder.join("volume/..data_tmp"), folder.join("volume/..data")).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_file_that_is_new() {
        is_seen(|folder| fs::write(folder.join("more/n.conf"), "").unwrap()).await;
    }

    #[tokio::test]
    async fn a_file_in_a_folder_that_is_new() {
        let (folder, load) = folder();
        let mut files = watch(&load, Watch::Notify, Duration::ZERO);
        {
            let mut changed = std::pin::pin!(files.changed());
            assert_eq!(changed.as_mut().now_or_never(), None);
            fs::create_dir(folder.path().join("more/new")).unwrap();
        }
        // Told of the folder; armed anew it sees what comes into it.
        let write = async { fs::write(folder.path().join("more/new/n.conf"), "").unwrap() };
        timeout(Duration::from_secs(30), async { tokio::join!(files.changed(), write) }).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn other_files_do_not_count() {
        let (folder, load) = folder();
        let mut files = watch(&load, POLL, Duration::ZERO);
        fs::write(folder.path().join("more/notes.txt"), "").unwrap();
        assert!(timeout(Duration::from_secs(60), files.changed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_gone_has_a_second_to_come_back() {
        for is_back in [true, false] {
            let (folder, load) = folder();
            let mut files = watch(&load, POLL, Duration::ZERO);
            let path = folder.path().join("t.conf");
            let start = Instant::now();
            fs::remove_file(&path).unwrap();
            assert_eq!(files.changed().now_or_never(), None);
            let back = async {
                if is_back {
                    fs::write(&path, "back").unwrap();
                }
            };
            tokio::join!(files.changed(), async {
                sleep(Duration::from_millis(500)).await;
                back.await;
            });
            assert_eq!(start.elapsed(), GONE);
            assert_eq!(files.seen.contains_key(&path), is_back);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_is_gone() {
        let (folder, load) = folder();
        let mut files = watch(&load, POLL, Duration::ZERO);
        fs::rename(folder.path().join("more"), folder.path().join("other")).unwrap();
        files.changed().await;
        fs::rename(folder.path().join("other"), folder.path().join("more")).unwrap();
        files.changed().await;
        assert_eq!(files.seen.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_quiet() {
        let (folder, load) = folder();
        let mut files = watch(&load, POLL, Duration::from_secs(10));
        let start = Instant::now();
        let write = |text: &'static str| fs::write(folder.path().join("t.conf"), text).unwrap();
        write("one");
        tokio::join!(files.changed(), async {
            sleep(Duration::from_secs(9)).await;
            write("another");
        });
        assert_eq!(start.elapsed().as_secs(), 19);
    }

    #[tokio::test]
    async fn what_cannot_be_watched_is_said_once() {
        let load = LoadOptions { configs: vec!["/no/such/t.conf".into()], ..LoadOptions::default() };
        let mut files = Files::new(&load, &nothing, Watch::Notify, Duration::ZERO);
        assert_eq!(files.changed().now_or_never(), None);
        assert_eq!(files.unwatchable, BTreeSet::from(["/no/such".into()]));
    }

    #[test]
    fn folders_on_the_way() {
        let (folder, _) = folder();
        let mut folders = BTreeSet::new();
        folders_towards(&folder.path().join("volume/v.conf"), &mut folders, &mut 0);
        let volume = folder.path().join("volume");
        assert_eq!(folders, BTreeSet::from([volume.clone(), volume.join("..data"), volume.join("..1")]));
        assert_eq!(parent(Path::new("t.conf")), Path::new("."));
        assert_eq!(parent(Path::new("/")), Path::new("/"));
        symlink("loop", folder.path().join("loop")).unwrap();
        folders_towards(&folder.path().join("loop"), &mut folders, &mut 0);
    }

    /// Answers with these times one after the other; the URL, and the requests so far.
    async fn server(times: Vec<Option<&'static str>>) -> (String, std::sync::Arc<Mutex<Vec<String>>>) {
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/t.conf", listener.local_addr().unwrap());
        let requests = std::sync::Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        tokio::spawn(async move {
            for time in times {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                kept.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).to_lowercase());
                let time = time.map(|time| format!("Last-Modified: {time}\r\n")).unwrap_or_default();
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{time}\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        });
        (url, requests)
    }

    fn plain_client() -> reqwest::Client {
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    #[tokio::test]
    async fn an_address_that_was_modified() {
        let (url, requests) = server(vec![Some("a"), None, Some("a"), Some("b"), Some("b")]).await;
        let token = |name: &str| (name == "INFLUX_TOKEN").then(|| "t0ken".to_owned());
        let (client, mut seen) = (plain_client(), None);
        let mut changed = Vec::new();
        for _ in 0..6 {
            changed.push(has_changed(&client, &url, &mut seen, &token).await);
        }
        // The last was not answered.
        assert_eq!(changed, [false, false, false, true, false, false]);
        let requests = requests.lock().unwrap();
        assert!(requests[0].starts_with("head /t.conf "), "{}", requests[0]);
        assert!(requests[0].contains("authorization: token t0ken"), "{}", requests[0]);
    }

    #[tokio::test]
    async fn addresses_are_looked_at_again_and_again() {
        let (url, requests) = server(vec![Some("a"), Some("a"), Some("b"), Some("c")]).await;
        let mut addresses = Addresses::new(Duration::from_millis(1)).unwrap();
        addresses.client = plain_client();
        addresses.follow(&[(Location::File("t.conf".into()), None), (Location::Url(url.clone()), None)]);
        addresses.changed().await;
        assert_eq!(requests.lock().unwrap().len(), 3);
        // What is known of an address outlives a reload.
        addresses.follow(&[(Location::Url(url), None)]);
        addresses.changed().await;
        assert_eq!(requests.lock().unwrap().len(), 4);
        addresses.follow(&[]);
        assert_eq!(addresses.changed().now_or_never(), None);
    }
}
