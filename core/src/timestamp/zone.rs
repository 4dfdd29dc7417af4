//! Time zones: offsets of instants, and instants of wall clocks.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::TimestampError;

/// A time zone, by its rules.
#[derive(Clone, Debug)]
pub struct Zone(Rules);

#[derive(Clone, Debug)]
enum Rules {
    /// Apart from the rest because almost every configuration means this one.
    Utc,
    Named(TimeZone),
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(Rules::Utc);

    /// Loads a zone: an IANA name in its own spelling, `UTC` or the empty text, or `Local` for the zone of the host.
    ///
    /// Fails if neither the host nor the built-in database knows the name.
    pub fn load(name: &str) -> Result<Self, TimestampError> {
        let unknown = || TimestampError::UnknownZone(name.to_owned());
        match name {
            "" | "UTC" => Ok(Self::UTC),
            "Local" => Ok(Self(Rules::Named(TimeZone::try_system().map_err(|_| unknown())?))),
            _ => {
                let zone = TimeZone::get(name).map_err(|_| unknown())?;
                // The database finds names in any case; Go looks for a file and does not.
                if zone.iana_name() == Some(name) { Ok(Self(Rules::Named(zone))) } else { Err(unknown()) }
            }
        }
    }

    /// Seconds that the zone's clocks are ahead of UTC at an instant in seconds since the epoch.
    pub fn offset_at(&self, second: i64) -> i64 {
        match &self.0 {
            Rules::Utc => 0,
            Rules::Named(zone) => i64::from(zone.to_offset(nearest_timestamp(second)).seconds()),
        }
    }

    /// Appends the abbreviation in force at an instant, as `CET` or `+03`.
    pub(crate) fn write_abbreviation(&self, second: i64, out: &mut Vec<u8>) {
        match &self.0 {
            Rules::Utc => out.extend_from_slice(b"UTC"),
            Rules::Named(zone) => {
                let info = zone.to_offset_info(nearest_timestamp(second));
                out.extend_from_slice(info.abbreviation().as_bytes());
            }
        }
    }

    /// The instant at which the zone's clocks show `wall`, both in seconds since the epoch.
    ///
    /// The offset is looked up at the wall clock read as UTC, then once more at the instant found by it. So a repeated
    /// hour is the second one east of Greenwich and the first one west of it, and a skipped hour moves one hour on in
    /// the east and one hour back in the west.
    pub fn instant_of_wall(&self, wall: i64) -> i64 {
        let first = self.offset_at(wall);
        let second = self.offset_at(wall.saturating_sub(first));
        wall.saturating_sub(second)
    }
}

/// Beyond the years that the zone database covers, the rules of its last year go on.
fn nearest_timestamp(second: i64) -> Timestamp {
    let clamped = second.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(clamped).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert!(Zone::load("Europe/Berlin").is_ok());
        assert!(Zone::load("").is_ok() && Zone::load("UTC").is_ok() && Zone::load("Local").is_ok());
        for name in ["europe/berlin", "Mars/Base", "PST", "CEST", "IST"] {
            let error = Zone::load(name).unwrap_err().to_string();
            assert_eq!(error, format!("unknown time zone {name:?}; use an IANA name like \"Europe/Berlin\""));
        }
        for name in ["CET", "EST", "MST", "GMT"] {
            assert!(Zone::load(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn offsets() {
        let berlin = Zone::load("Europe/Berlin").unwrap();
        assert_eq!(berlin.offset_at(1_700_000_000), 3600);
        assert_eq!(berlin.offset_at(1_690_000_000), 7200);
        assert_eq!(Zone::UTC.offset_at(i64::MAX), 0);
        assert_eq!(berlin.offset_at(i64::MAX), 3600);
    }
}
