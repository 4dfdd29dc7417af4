//! The names of a stream of documents: which member flattens to which field key, and what becomes of it.

use std::hash::BuildHasher;

use bstr::ByteSlice;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use heliograph_core::model::Key;

use super::config::Selection;
use super::scan::{Fault, FaultKind};

/// No node.
pub(super) const NONE: u32 = u32::MAX;
/// The node of the top level.
pub(super) const ROOT: u32 = 0;

/// Distinct names in one document; each may become a field.
const MAX_NAMES: usize = 1 << 18;
/// Memory of the names of one document, in bytes: a long key around many short ones is repeated in each of theirs.
const MAX_NAME_BYTES: usize = 32 << 20;
/// What is remembered from one document to the next; larger shapes are forgotten.
const KEPT_NODES: usize = 8192;
const KEPT_BYTES: usize = 1 << 20;

/// A tree of the members seen so far, so that a document like the last one costs a comparison a key.
///
/// Each node knows which sibling came next last time: the usual look-up compares bytes with that guess and neither
/// hashes nor allocates.
#[derive(Debug)]
pub(super) struct Shape {
    nodes: Vec<Node>,
    /// Nodes by parent and key, for wrong guesses.
    index: HashTable<u32>,
    /// The first node of each flattened name, to notice two of one name.
    names: HashMap<Key, u32>,
    hasher: DefaultHashBuilder,
    bytes: usize,
    serial: u64,
}

/// What becomes of a value, by its name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Role {
    /// The time of the metric.
    pub(super) time: bool,
    /// The measurement, if it is text.
    pub(super) measurement: bool,
    /// A tag.
    pub(super) tag: bool,
    /// A field even if it is text or a truth value.
    pub(super) kept: bool,
}

impl Role {
    /// Whether anybody asks for a value that is no number.
    #[inline]
    pub(super) fn wants_text(self) -> bool {
        self.time | self.measurement | self.tag | self.kept
    }
}

#[derive(Debug)]
pub(super) struct Node {
    parent: u32,
    /// The member's own key, decoded; of an array's element its index in decimal.
    key: Box<[u8]>,
    /// The index that the key spells, or [`NONE`].
    element: u32,
    /// Whether a string of these very bytes means this key.
    literal: bool,
    /// The child and the sibling that came next last time.
    first: u32,
    next: u32,
    /// The container it was last seen in, and what it gave there.
    seen_in: u64,
    pub(super) values: (u32, u32),
    /// The flattened name; none until a value asks for it.
    name: Option<Name>,
}

#[derive(Debug)]
struct Name {
    key: Key,
    role: Role,
    /// Another node has the same name.
    shared: bool,
}

/// A place among the children of a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The container.
    pub(super) node: u32,
    /// The child before, and the one expected next.
    previous: u32,
    expected: u32,
    /// Tells this container from all others, to notice a key that comes twice.
    serial: u64,
}

impl Shape {
    pub(super) fn new() -> Self {
        let mut shape = Self {
            nodes: Vec::new(),
            index: HashTable::new(),
            names: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            bytes: 0,
            serial: 0,
        };
        shape.add(NONE, b"");
        shape
    }

    /// Forgets what the last document brought if it was unusually large.
    pub(super) fn trim(&mut self) {
        if self.nodes.len() > KEPT_NODES || self.bytes > KEPT_BYTES {
            *self = Self::new();
        }
    }

    /// Enters a container.
    #[inline]
    pub(super) fn enter(&mut self, node: u32) -> Place {
        self.serial += 1;
        Place { node, previous: NONE, expected: self.nodes[node as usize].first, serial: self.serial }
    }

    /// The expected member, if `rest` (behind the opening quote) begins with its key and a quote; with the key's length.
    #[inline]
    pub(super) fn expected_member(&self, place: &Place, rest: &[u8]) -> Option<(u32, usize)> {
        let node = self.nodes.get(place.expected as usize)?;
        let length = node.key.len();
        let hit = node.literal && rest.get(length) == Some(&b'"') && rest[..length] == *node.key;
        hit.then_some((place.expected, length))
    }

    /// The member of this key, wherever it was last time.
    pub(super) fn member(&mut self, place: &Place, key: &[u8]) -> Result<u32, FaultKind> {
        let hash = self.hasher.hash_one((place.node, key));
        let nodes = &self.nodes;
        let found =
            self.index.find(hash, |&id| nodes[id as usize].parent == place.node && *nodes[id as usize].key == *key);
        match found {
            Some(&id) => Ok(id),
            None if self.nodes.len() >= MAX_NAMES => Err(FaultKind::TooManyNames(MAX_NAMES)),
            None => {
                self.grow(key.len())?;
                Ok(self.add(place.node, key))
            }
        }
    }

    /// The element of this index.
    #[inline]
    pub(super) fn element(&mut self, place: &Place, index: u32) -> Result<u32, FaultKind> {
        match self.nodes.get(place.expected as usize) {
            Some(node) if node.element == index => Ok(place.expected),
            _ => self.member(place, itoa::Buffer::new().format(index).as_bytes()),
        }
    }

    /// Goes to a child, and notes that it came next. `true` if this container had it already.
    #[inline]
    pub(super) fn step(&mut self, place: &mut Place, child: u32) -> bool {
        if place.expected != child {
            match place.previous {
                NONE => self.nodes[place.node as usize].first = child,
                previous => self.nodes[previous as usize].next = child,
            }
        }
        let node = &mut self.nodes[child as usize];
        (place.previous, place.expected) = (child, node.next);
        std::mem::replace(&mut node.seen_in, place.serial) == place.serial
    }

    /// A node, to note what it gave.
    #[inline]
    pub(super) fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// What becomes of the values of a node.
    #[inline]
    pub(super) fn role(&mut self, id: u32, selection: &Selection) -> Result<Role, FaultKind> {
        match &self.nodes[id as usize].name {
            Some(name) => Ok(name.role),
            None => self.resolve(id, selection),
        }
    }

    /// The flattened name of a node whose role was asked for, the role, and whether another node has the same name.
    #[inline]
    pub(super) fn name(&self, id: u32) -> Option<(&Key, Role, bool)> {
        self.nodes[id as usize].name.as_ref().map(|name| (&name.key, name.role, name.shared))
    }

    #[cold]
    fn resolve(&mut self, id: u32, selection: &Selection) -> Result<Role, FaultKind> {
        let flat = self.flatten(id)?;
        let role = selection.role(&flat);
        let key = Key::intern(&flat);
        let first = *self.names.entry(key.clone()).or_insert(id);
        let shared = first != id;
        if shared && let Some(name) = &mut self.nodes[first as usize].name {
            name.shared = true;
        }
        self.nodes[id as usize].name = Some(Name { key, role, shared });
        Ok(role)
    }

    /// The keys from the top, joined by `_`. An empty name takes no separator behind it.
    fn flatten(&mut self, id: u32) -> Result<Vec<u8>, FaultKind> {
        let (mut path, mut length, mut at) = (Vec::new(), 0, id);
        while at != ROOT {
            path.push(at);
            length += self.nodes[at as usize].key.len() + 1;
            at = self.nodes[at as usize].parent;
        }
        self.grow(length)?;
        let mut flat = Vec::with_capacity(length);
        for &at in path.iter().rev() {
            if !flat.is_empty() {
                flat.push(b'_');
            }
            flat.extend_from_slice(&self.nodes[at as usize].key);
        }
        Ok(flat)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), FaultKind> {
        self.bytes += bytes;
        if self.bytes > MAX_NAME_BYTES { Err(FaultKind::NamesTooLong(MAX_NAME_BYTES)) } else { Ok(()) }
    }

    fn add(&mut self, parent: u32, key: &[u8]) -> u32 {
        let id = self.nodes.len() as u32;
        let decimal = key.to_str().ok().and_then(|text| text.parse().ok());
        let element = decimal.filter(|index| itoa::Buffer::new().format(*index).as_bytes() == key).unwrap_or(NONE);
        let literal = !key.iter().any(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        let key = key.into();
        self.nodes.push(Node {
            parent,
            key,
            element,
            literal,
            first: NONE,
            next: NONE,
            seen_in: 0,
            values: (0, 0),
            name: None,
        });
        let Self { nodes, hasher, .. } = self;
        let hash = |&id: &u32| hasher.hash_one((nodes[id as usize].parent, &*nodes[id as usize].key));
        self.index.insert_unique(hash(&id), id, hash);
        id
    }
}

impl FaultKind {
    /// A fault at a place.
    pub(super) fn at(self, at: usize) -> Fault {
        Fault { at, kind: self }
    }
}
