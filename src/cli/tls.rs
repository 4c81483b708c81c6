//! Flags of TLS, for every command that speaks to brokers or listens for clients.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clap::Args;

use super::{Usage, say};
use crate::proxy::tls::{TowardBrokers, TowardClients};
use crate::proxy::trouble::Listener;
use crate::proxy::{BrokerTls, ListenTls, Tls};

/// Different troubles that are told; what comes beyond them is counted only.
const TOLD_MAX: usize = 100;

/// TLS toward brokers.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS toward brokers")]
pub(crate) struct BrokerTlsArguments {
    /// Speak TLS to the brokers, whose certificates the system must trust; the flags below say so
    /// too.
    #[arg(long)]
    tls: bool,
    /// PEM file of the authorities that sign the brokers' certificates, or of these themselves.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// PEM file of the certificate to show to brokers that ask for one (mTLS).
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of its private key, where that is not in the same file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name the brokers' certificates are for, where it is not the host connected to.
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Take whatever certificate a broker shows.
    #[arg(long, conflicts_with = "tls_ca")]
    tls_insecure: bool,
}

impl BrokerTlsArguments {
    /// What was asked for; absent where TLS was not.
    pub(crate) fn asked(&self) -> Option<BrokerTls> {
        let is = self.tls
            || self.tls_insecure
            || self.tls_ca.is_some()
            || self.tls_cert.is_some()
            || self.tls_server_name.is_some();
        is.then(|| BrokerTls {
            ca: self.tls_ca.clone(),
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            server_name: self.tls_server_name.clone(),
            insecure: self.tls_insecure,
        })
    }

    fn read(&self, now_s: i64) -> anyhow::Result<Option<TowardBrokers>> {
        let asked = self.asked().map(|asked| asked.read(now_s)).transpose();
        asked.map_err(|error| usage("TLS toward brokers", error))
    }
}

/// TLS toward clients.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS toward clients")]
pub(crate) struct ListenTlsArguments {
    /// PEM file of the certificate to show to clients: they must speak TLS then.
    #[arg(long, value_name = "FILE")]
    listen_tls_cert: Option<PathBuf>,
    /// PEM file of its private key, where that is not in the same file.
    #[arg(long, value_name = "FILE", requires = "listen_tls_cert")]
    listen_tls_key: Option<PathBuf>,
    /// PEM file of the authorities that sign clients' certificates: who has none is refused then.
    #[arg(long, value_name = "FILE", requires = "listen_tls_cert")]
    listen_tls_client_ca: Option<PathBuf>,
}

impl ListenTlsArguments {
    fn read(&self, now_s: i64) -> anyhow::Result<Option<TowardClients>> {
        let Some(cert) = self.listen_tls_cert.clone() else { return Ok(None) };
        let (key, client_ca) = (self.listen_tls_key.clone(), self.listen_tls_client_ca.clone());
        let read = ListenTls { cert, key, client_ca }.read(now_s);
        read.map(Some).map_err(|error| usage("TLS toward clients", error))
    }
}

/// What was asked for on both sides.
pub(crate) fn read(
    brokers: &BrokerTlsArguments,
    clients: &ListenTlsArguments,
    now_s: i64,
) -> anyhow::Result<Tls> {
    let (toward_brokers, toward_clients) = (brokers.read(now_s)?, clients.read(now_s)?);
    Ok(Tls { toward_brokers, toward_clients })
}

fn usage(side: &str, error: crate::proxy::TlsError) -> anyhow::Error {
    anyhow::Error::new(Usage(format!("{side}: {:#}", anyhow::Error::new(error))))
}

/// Says each trouble once.
pub(crate) fn tell_troubles() -> Listener {
    let told = Mutex::new(BTreeSet::<String>::new());
    Listener::new(move |trouble| {
        let text = trouble.to_string();
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX && told.insert(text.clone()) {
            say(&text);
        }
    })
}
