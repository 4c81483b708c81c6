//! Releases of Apache Kafka by number.

use std::fmt;
use std::str::FromStr;

/// A release, as Maven names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Major number.
    pub major: u16,
    /// Minor number.
    pub minor: u16,
    /// Patch number.
    pub patch: u16,
}

/// The newest patch release of each line that was started with this driver.
const NEWEST: &[Version] = &[
    Version::new(3, 7, 2),
    Version::new(3, 8, 1),
    Version::new(3, 9, 1),
    Version::new(4, 0, 0),
    Version::new(4, 1, 0),
    Version::new(4, 2, 0),
    Version::new(4, 3, 0),
    Version::new(4, 4, 0),
];

impl Version {
    /// What is started where nothing else is asked for.
    pub const DEFAULT: Self = Self::new(4, 3, 0);
    /// The oldest release this driver knows how to configure.
    pub const OLDEST: Self = Self::new(3, 7, 0);

    /// A release by its numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    /// `4.3.0`, or `4.3` for the newest patch release known of that line.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a release of Apache Kafka such as 4.3.0");
        let numbers: Vec<u16> = text
            .split('.')
            .map(|part| part.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        let version = match numbers[..] {
            [major, minor, patch] => Self { major, minor, patch },
            [major, minor] => {
                let line = NEWEST.iter().find(|known| (known.major, known.minor) == (major, minor));
                *line.ok_or_else(|| format!("name a patch release of {text}, such as {text}.0"))?
            }
            _ => return Err(wrong()),
        };
        if version < Self::OLDEST {
            return Err(format!(
                "Kafka {version} is older than {}, the oldest supported",
                Self::OLDEST
            ));
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_for_its_newest_known_release() {
        let parse = |text: &str| text.parse::<Version>().map(|version| version.to_string());
        assert_eq!(parse("4.3.0"), Ok("4.3.0".into()));
        assert_eq!(parse("3.9"), Ok("3.9.1".into()));
        assert_eq!(parse("5.0.1"), Ok("5.0.1".into()));
        for bad in ["", "4", "4.3.0.1", "latest", "3.6.2", "5.0", "4.-1.0"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
