//! What kept a connection from being served, as an observation about who was at its other end.
//!
//! Never: ends anything; the others go on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::endpoint::Endpoint;
use crate::history::tap::Connection;

/// Something about one connection that its other end did or did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which connection.
    pub connection: Connection,
    /// With whom.
    pub whom: Whom,
    /// What was seen, in words.
    pub what: String,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// A client.
    Client(SocketAddr),
    /// A broker, by the address it is known by.
    Broker(Endpoint),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whom {
            // The port is a different one each time.
            Whom::Client(address) => write!(f, "client at {}: {}", address.ip(), self.what),
            Whom::Broker(address) => write!(f, "broker {address}: {}", self.what),
        }
    }
}

/// Who is told of troubles, from whichever thread meets them.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(&Trouble) + Send + Sync>);

impl Listener {
    /// Calls this.
    pub fn new(listener: impl Fn(&Trouble) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    pub(super) fn tell(&self, trouble: &Trouble) {
        (self.0)(trouble);
    }
}

impl Default for Listener {
    /// Nobody.
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// What an error of a connection tells about its other end.
pub(super) fn in_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => in_tls_words(error),
        None => error.to_string(),
    }
}

fn in_tls_words(error: &Error) -> String {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what it says is no TLS".to_owned()
        }
        Error::NoCertificatesPresented => "it shows no certificate, and has to".to_owned(),
        Error::InvalidCertificate(error) => about_certificate(error),
        Error::AlertReceived(alert) => about_alert(*alert),
        error => format!("TLS failed: {error}"),
    }
}

fn about_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by no authority that is known here".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate does not hold yet".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let (expected, presented) = (expected.to_str(), presented.join(", "));
            format!("its certificate is not for {expected}, but for {presented}")
        }
        error => format!("its certificate is not taken: {error}"),
    }
}

fn about_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => {
            "it does not know the authority that signed our certificate".to_owned()
        }
        AlertDescription::CertificateRequired => "it wants a certificate of ours".to_owned(),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::UnsupportedCertificate => {
            format!("it does not take our certificate: alert {alert:?}")
        }
        alert => format!("it ends TLS with the alert {alert:?}"),
    }
}
