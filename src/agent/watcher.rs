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
