//! PEM files into what a TLS handshake needs, toward brokers and toward clients.
//!
//! All is read and checked before anything listens: a file that is missing, holds something else,
//! does not fit its key or has expired is an error that names it.
//!
//! Never: opens a socket; keeps a private key anywhere but where rustls has it.
//! Not checked: revocation.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName,
};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificate::{Trusting, expired};

/// TLS toward brokers as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerTls {
    /// A PEM file of the authorities that sign brokers' certificates, or of such certificates
    /// themselves; absent means those that the system trusts.
    pub ca: Option<PathBuf>,
    /// A PEM file of the certificate to show to brokers, those that signed it behind it.
    pub cert: Option<PathBuf>,
    /// A PEM file of its key; absent means that it is in the same file.
    pub key: Option<PathBuf>,
    /// The name that every broker's certificate is for, where it is not the host it listens on.
    pub server_name: Option<String>,
    /// Take whatever certificate a broker shows.
    pub insecure: bool,
}

/// TLS toward clients as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// A PEM file of the certificate that clients are shown, those that signed it behind it.
    pub cert: PathBuf,
    /// A PEM file of its key; absent means that it is in the same file.
    pub key: Option<PathBuf>,
    /// A PEM file of the authorities that sign clients' certificates; clients without one are
    /// refused then.
    pub client_ca: Option<PathBuf>,
}

/// TLS toward brokers, ready for use.
#[derive(Clone)]
pub struct TowardBrokers {
    pub(super) connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

/// TLS toward clients, ready for use.
#[derive(Clone)]
pub struct TowardClients {
    pub(super) acceptor: TlsAcceptor,
}

/// Why TLS cannot be as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not there or not for us.
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// A file without what is looked for in it.
    #[error("{}: {what}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A key of another certificate.
    #[error("the key in {} does not fit the certificate in {}", key.display(), cert.display())]
    KeyMismatch {
        /// Where the key is.
        key: PathBuf,
        /// Where the certificate is.
        cert: PathBuf,
    },
    /// The system has no authorities to trust.
    #[error("the system names no certificate authority; name a file of them")]
    NoSystemAuthorities,
    /// A name that no certificate can be for.
    #[error("{0:?} is neither a host's name nor an address")]
    ServerName(String, #[source] InvalidDnsNameError),
}

impl TlsError {
    fn file(file: &Path, what: impl fmt::Display) -> Self {
        Self::File { file: file.to_owned(), what: what.to_string() }
    }
}

impl BrokerTls {
    /// Reads the files; `now_s` is seconds since 1970.
    ///
    /// # Errors
    /// Where a file is not what it should be.
    pub fn read(&self, now_s: i64) -> Result<TowardBrokers, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let trusting = self.trusting(provider)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(trusting));
        let config = match &self.cert {
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let (chain, key, key_file) = identity(cert, self.key.as_deref(), now_s)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unfit(error, cert, key_file))?
            }
        };
        let server_name = self.server_name.as_deref().map(server_name).transpose()?;
        Ok(TowardBrokers { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    fn trusting(&self, provider: Arc<CryptoProvider>) -> Result<Trusting, TlsError> {
        if self.insecure {
            return Ok(Trusting::everyone(provider));
        }
        let (roots, own) = match &self.ca {
            Some(file) => authorities(file)?,
            None => (system_authorities()?, Vec::new()),
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(|_| TlsError::NoSystemAuthorities)?;
        Ok(Trusting::those(verifier, own, provider))
    }
}

impl ListenTls {
    /// Reads the files; `now_s` is seconds since 1970.
    ///
    /// # Errors
    /// Where a file is not what it should be.
    pub fn read(&self, now_s: i64) -> Result<TowardClients, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = Arc::new(authorities(file)?.0);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let verifier = verifier.map_err(|error| TlsError::file(file, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key, key_file) = identity(&self.cert, self.key.as_deref(), now_s)?;
        let config = builder.with_single_cert(chain, key);
        let config = config.map_err(|error| unfit(error, &self.cert, key_file))?;
        Ok(TowardClients { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

impl TowardBrokers {
    /// The name that the certificate of a broker at that host must be for.
    pub(super) fn name_of(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        self.server_name.clone().map_or_else(|| server_name(host), Ok)
    }
}

impl fmt::Debug for TowardBrokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowardBrokers").field("server_name", &self.server_name).finish()
    }
}

impl fmt::Debug for TowardClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TowardClients")
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|error| TlsError::ServerName(text.to_owned(), error))
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| TlsError::Unreadable(file.to_owned(), error))
}

/// Every certificate of a file, of which there is at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| TlsError::file(file, damage(&error)))?;
    match certificates.is_empty() {
        true => Err(TlsError::file(file, format!("no certificate in it; {}", instead(&bytes)))),
        false => Ok(certificates),
    }
}

/// A certificate with those that signed it, its key, and the file that has it.
fn identity<'f>(
    cert: &'f Path,
    key: Option<&'f Path>,
    now_s: i64,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, &'f Path), TlsError> {
    let chain = certificates(cert)?;
    if let Some(why) = expired(&chain[0], now_s) {
        return Err(TlsError::file(cert, why));
    }
    let file = key.unwrap_or(cert);
    let bytes = read(file)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if has(&bytes, "BEGIN ENCRYPTED PRIVATE KEY") => TlsError::file(
            file,
            "its private key is encrypted; only one without a password is read",
        ),
        pem::Error::NoItemsFound => {
            TlsError::file(file, format!("no private key in it; {}", instead(&bytes)))
        }
        error => TlsError::file(file, damage(&error)),
    })?;
    Ok((chain, key, file))
}

/// The authorities of a file, and its certificates as they are.
fn authorities(file: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let certificates = certificates(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| TlsError::file(file, format!("a certificate in it: {error}")))?;
    }
    Ok((roots, certificates))
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Some of what a system keeps may be unreadable to rustls; that is not ours to judge.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoSystemAuthorities) } else { Ok(roots) }
}

fn unfit(error: rustls::Error, cert: &Path, key: &Path) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { key: key.to_owned(), cert: cert.to_owned() }
        }
        rustls::Error::InvalidCertificate(error) => {
            TlsError::file(cert, format!("its certificate cannot be read: {error:?}"))
        }
        error => TlsError::file(key, format!("its private key cannot be used: {error}")),
    }
}

fn damage(error: &pem::Error) -> String {
    format!("the PEM in it is damaged: {error}")
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// What a file without the PEM that was looked for is instead.
fn instead(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "it is empty",
        [0xfe, 0xed, 0xfe, 0xed, ..] => "it is a Java keystore (JKS), and PEM is read",
        // PKCS#12 and plain DER both begin with a SEQUENCE of a length of two bytes.
        [0x30, 0x82, ..] => "it is DER or PKCS#12, and PEM is read",
        _ if has(bytes, "-----BEGIN ") => "what it has is something else",
        _ => "it is no PEM",
    }
}
