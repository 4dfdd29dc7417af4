//! A disk in memory for tests: it can run full, fail, and lose what was not synced, in any order.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::storage::{Append, Disk, ReadAt};

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct FakeDisk(Arc<(Mutex<World>, Condvar)>);

#[derive(Default)]
struct World {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    faults: Faults,
    syncs: usize,
    read: usize,
    /// Syncs wait until this is over.
    held: bool,
}

/// What does not work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Writing fails with this number of the operating system, after half of it is written.
    pub write: Option<i32>,
    /// Syncing fails with it, and nobody knows what is safe.
    pub sync: Option<i32>,
    /// Bytes there is space for.
    pub space: Option<usize>,
    /// Nothing can be changed.
    pub read_only: bool,
    /// The disk has lost this file from this byte on.
    pub lost: Option<(&'static str, usize)>,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    safe: Vec<u8>,
    /// Where each write since the last sync begins, with its bytes.
    unsynced: Vec<(usize, Vec<u8>)>,
}

pub const ENOSPC: i32 = 28;
pub const EIO: i32 = 5;
const EROFS: i32 = 30;

impl FakeDisk {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.0.lock().unwrap()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    pub fn syncs(&self) -> usize {
        self.world().syncs
    }

    /// Lets every sync wait from now on, or no longer.
    pub fn hold_syncs(&self, hold: bool) {
        self.world().held = hold;
        self.0.1.notify_all();
    }

    /// Bytes that were read.
    pub fn read(&self) -> usize {
        self.world().read
    }

    pub fn bytes(&self) -> usize {
        let world = self.world();
        world.names.values().map(|&file| world.files[file].bytes.len()).sum()
    }

    /// Changes a file behind the journal's back.
    pub fn spoil(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        let file = world.names[name];
        change(&mut world.files[file].bytes);
        world.files[file].safe = world.files[file].bytes.clone();
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[world.names[name]].bytes.clone()
    }

    /// The disk after a power cut. `choose(n)` is a number below `n`: of what was not synced, anything may be there.
    pub fn after_power_cut(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let world = self.world();
        let mut names = BTreeMap::new();
        for name in world.names.keys().chain(world.safe_names.keys()) {
            let (now, safe) = (world.names.get(name), world.safe_names.get(name));
            let chosen = if now == safe || choose(2) == 0 { safe } else { now };
            chosen.map(|&file| names.insert(name.clone(), file));
        }
        let cut = |content: &Content, choose: &mut dyn FnMut(usize) -> usize| {
            let mut bytes = content.safe.clone();
            for (at, written) in &content.unsynced {
                let end = match choose(3) {
                    0 => continue,
                    1 => choose(written.len() + 1),
                    _ => written.len(),
                };
                bytes.resize(bytes.len().max(at + end), 0);
                bytes[*at..at + end].copy_from_slice(&written[..end]);
            }
            let unsafe_bytes = bytes.len() - content.safe.len().min(bytes.len());
            if choose(4) == 0 {
                bytes.truncate(content.safe.len() + choose(unsafe_bytes + 1));
            }
            Content { safe: bytes.clone(), bytes, unsynced: vec![] }
        };
        let files = world.files.iter().map(|content| cut(content, choose)).collect();
        let faults = Faults::default();
        let world = World { files, safe_names: names.clone(), names, faults, ..World::default() };
        Self(Arc::new((Mutex::new(world), Condvar::new())))
    }
}

impl World {
    fn change(&self) -> io::Result<()> {
        if self.faults.read_only { Err(io::Error::from_raw_os_error(EROFS)) } else { Ok(()) }
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FakeDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.world().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Append>> {
        let mut world = self.world();
        world.change()?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = world.files.len();
        world.files.push(Content::default());
        world.names.insert(name.to_owned(), file);
        Ok(Box::new(FakeFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt>> {
        let file = self.world().file(name)?;
        Ok(Box::new(FakeFile { disk: self.clone(), file }))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let file = world.file(name)?;
        let content = &mut world.files[file];
        content.bytes.truncate(len as usize);
        *content = Content { safe: content.bytes.clone(), bytes: std::mem::take(&mut content.bytes), unsynced: vec![] };
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let file = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.world();
        if let Some(error) = world.faults.sync {
            return Err(io::Error::from_raw_os_error(error));
        }
        world.safe_names = world.names.clone();
        Ok(())
    }
}

struct FakeFile {
    disk: FakeDisk,
    file: usize,
}

impl Append for FakeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let used = self.disk.bytes();
        let mut world = self.disk.world();
        world.change()?;
        let full = world.faults.space.filter(|space| used + bytes.len() > *space).map(|_| ENOSPC);
        let error = world.faults.write.or(full);
        let written = if error.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        let content = &mut world.files[self.file];
        content.unsynced.push((content.bytes.len(), written.to_vec()));
        content.bytes.extend_from_slice(written);
        error.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.0.1.wait_while(self.disk.world(), |world| world.held).unwrap();
        world.syncs += 1;
        if let Some(error) = world.faults.sync {
            return Err(io::Error::from_raw_os_error(error));
        }
        let content = &mut world.files[self.file];
        content.safe = content.bytes.clone();
        content.unsynced.clear();
        Ok(())
    }
}

impl ReadAt for FakeFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        let lost = world.faults.lost.filter(|(name, _)| world.names.get(*name) == Some(&self.file));
        let left = lost.map_or(usize::MAX, |(_, from)| from.saturating_sub(offset as usize));
        if left == 0 {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let rest = world.files[self.file].bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len()).min(left);
        buffer[..len].copy_from_slice(&rest[..len]);
        world.read += len;
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.world().files[self.file].bytes.len() as u64)
    }
}
