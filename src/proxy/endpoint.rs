//! `host:port` as clients write it and brokers advertise it.

use std::fmt;
use std::str::FromStr;

/// Where something listens: a name or an address, not resolved, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The host; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST:PORT")]
pub struct BadEndpoint(pub String);

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            // Colons without brackets do not tell where the port begins.
            let host = bare.or(Some(host).filter(|host| !host.contains(':')))?;
            let port = port.parse().ok()?;
            (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
        });
        parsed.ok_or_else(|| BadEndpoint(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, u16)>) {
        let parsed = text.parse::<Endpoint>().ok();
        let expected = expected.map(|(host, port)| Endpoint { host: host.to_owned(), port });
        assert_eq!(parsed, expected, "{text}");
        if let Some(endpoint) = parsed {
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn hosts_are_kept_as_they_are_written() {
        check("127.0.0.1:9092", Some(("127.0.0.1", 9092)));
        check("kafka-1.example:1", Some(("kafka-1.example", 1)));
        check("[::1]:9092", Some(("::1", 9092)));
        for text in ["", "host", ":9092", "host:", "host:99999", "::1:9092", "host:-1"] {
            check(text, None);
        }
    }
}
