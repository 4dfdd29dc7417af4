//! Which interfaces of our own network namespace are up, asked of the kernel by netlink.

use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::io::retry_on_intr;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

// From linux/netlink.h, linux/rtnetlink.h and linux/if.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

const HEADER: usize = 16;
const IFINFO: usize = 16;
const ATTRIBUTE: usize = 4;

/// Room for one part of an answer, in bytes; the kernel makes none larger for a reader that asks for no more.
const PART: usize = 32 << 10;

/// Most interfaces that are remembered.
const LINKS: usize = 100_000;

/// The names of the interfaces that are up and no loopback.
#[derive(Debug, Default)]
pub(super) struct Links {
    part: Vec<u8>,
    names: Vec<u8>,
    /// Where each name ends.
    ends: Vec<usize>,
}

impl Links {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Asks the kernel anew.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let socket = ask()?;
        self.names.clear();
        self.ends.clear();
        loop {
            self.part.clear();
            self.part.reserve(PART);
            let (_, length) = retry_on_intr(|| recv(&socket, spare_capacity(&mut self.part), RecvFlags::TRUNC))?;
            if length == 0 || length > self.part.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's list of interfaces is cut off"));
            }
            if read_part(&self.part, &mut self.names, &mut self.ends)? {
                return Ok(());
            }
        }
    }

    /// Whether the interface is up and no loopback.
    pub(super) fn is_running(&self, interface: &[u8]) -> bool {
        let mut start = 0;
        self.ends.iter().any(|&end| self.names[std::mem::replace(&mut start, end)..end] == *interface)
    }
}

/// A socket on which the kernel answers with all interfaces.
fn ask() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // The kernel has its answer ready before the question returns; the limit is for a kernel that has none.
    set_socket_timeout(&socket, Timeout::Recv, Some(std::time::Duration::from_secs(1)))?;
    let mut question = Vec::with_capacity(HEADER + IFINFO + ATTRIBUTE + 4);
    let length = (HEADER + IFINFO + ATTRIBUTE + 4) as u32;
    question.extend_from_slice(&length.to_ne_bytes());
    question.extend_from_slice(&RTM_GETLINK.to_ne_bytes());
    question.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number and port, which the kernel fills in; then the empty description of a link.
    question.extend_from_slice(&[0; 8 + IFINFO]);
    question.extend_from_slice(&((ATTRIBUTE + 4) as u16).to_ne_bytes());
    question.extend_from_slice(&IFLA_EXT_MASK.to_ne_bytes());
    question.extend_from_slice(&RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    retry_on_intr(|| sendto(&socket, &question, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)))?;
    Ok(socket)
}

/// Reads one part of the answer; true if it was the last one.
fn read_part(mut part: &[u8], names: &mut Vec<u8>, ends: &mut Vec<usize>) -> io::Result<bool> {
    while let Some(length) = u32_at(part, 0) {
        let length = length as usize;
        let (Some(kind), Some(message)) = (u16_at(part, 4), part.get(HEADER..length)) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's list of interfaces is broken"));
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                return Err(io::Error::from_raw_os_error(u32_at(message, 0).map_or(0, u32::wrapping_neg) as i32));
            }
            RTM_NEWLINK => {
                let flags = u32_at(message, 8).unwrap_or(0);
                let attributes = message.get(IFINFO..).unwrap_or_default();
                if flags & IFF_UP != 0
                    && flags & IFF_LOOPBACK == 0
                    && ends.len() < LINKS
                    && let Some(name) = name(attributes)
                {
                    names.extend_from_slice(name);
                    ends.push(names.len());
                }
            }
            _ => {}
        }
        part = part.get(aligned(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// The name among the attributes of a link.
fn name(mut attributes: &[u8]) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let value = attributes.get(ATTRIBUTE..length.into())?;
        if kind == IFLA_IFNAME {
            return Some(value.strip_suffix(&[0]).unwrap_or(value));
        }
        attributes = attributes.get(aligned(length.into())..)?;
    }
    None
}

/// Messages and attributes start at multiples of four bytes.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_sysfs() {
        let mut links = Links::new();
        links.refresh().unwrap();
        links.refresh().unwrap();
        for entry in std::fs::read_dir("/sys/class/net").unwrap().map(Result::unwrap) {
            // Not every entry is an interface: bonding adds a file.
            let Ok(flags) = std::fs::read_to_string(entry.path().join("flags")) else { continue };
            let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
            let name = entry.file_name().into_encoded_bytes();
            assert_eq!(links.is_running(&name), flags & (IFF_UP | IFF_LOOPBACK) == IFF_UP, "{entry:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(mut part in prop::collection::vec(0u8..40, 0..200), kind in 2u8..18) {
            let (mut names, mut ends) = (Vec::new(), Vec::new());
            let _ = read_part(&part, &mut names, &mut ends);
            if part.len() >= 8 {
                let length = part.len() as u8;
                part[..6].copy_from_slice(&[length, 0, 0, 0, kind, 0]);
                let _ = read_part(&part, &mut names, &mut ends);
            }
        }
    }
}
