//! Whom to trust, and until when a certificate holds.
//!
//! A broker's certificate that is in the file of authorities itself is taken as such: it is what a
//! test cluster with one self-signed certificate has, and what other clients take.
//!
//! Never: trusts a signature that it has not verified, not even where everyone is trusted.

use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Which certificates of brokers are taken.
#[derive(Debug)]
pub(super) struct Trusting {
    /// Absent where every one is.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Those that are taken as they are.
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Trusting {
    pub(super) fn everyone(provider: Arc<CryptoProvider>) -> Self {
        Self { authorities: None, own: Vec::new(), provider }
    }

    pub(super) fn those(
        authorities: Arc<WebPkiServerVerifier>,
        own: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { authorities: Some(authorities), own, provider }
    }
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        if !self.own.iter().any(|own| own == certificate) {
            return authorities.verify_server_cert(certificate, intermediates, name, ocsp, now);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        match expired(certificate, i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) {
            Some(_) => Err(Error::InvalidCertificate(CertificateError::Expired)),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a certificate does not hold at that second since 1970, in words; absent where it does, or
/// where it cannot be read, which is said elsewhere.
pub(super) fn expired(certificate: &[u8], now_s: i64) -> Option<String> {
    let [(_, since), (until_text, until)] = validity(certificate)?;
    match () {
        () if now_s > until => Some(format!("its certificate has expired: {until_text}")),
        () if now_s < since => Some("its certificate does not hold yet".to_owned()),
        () => None,
    }
}

/// From when until when a certificate holds (RFC 5280, 4.1).
fn validity(certificate: &[u8]) -> Option<[(String, i64); 2]> {
    const VERSION: u8 = 0xa0;
    let mut certificate = Der(certificate);
    let mut all = Der(certificate.next()?.1);
    let mut signed = Der(all.next()?.1);
    let (tag, _) = signed.next()?;
    // Serial number, algorithm and issuer follow the version, which may be left out.
    for _ in 0..if tag == VERSION { 3 } else { 2 } {
        signed.next()?;
    }
    let mut validity = Der(signed.next()?.1);
    Some([time(validity.next()?)?, time(validity.next()?)?])
}

/// What is left of some DER.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        let (length, rest) = match first {
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            short => (usize::from(*short), rest),
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

/// A UTCTime or a GeneralizedTime, as people read it and in seconds since 1970.
fn time((tag, content): (u8, &[u8])) -> Option<(String, i64)> {
    const UTC_TIME: u8 = 0x17;
    let text = std::str::from_utf8(content).ok()?;
    let text = match tag {
        UTC_TIME if text >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        _ => text.to_owned(),
    };
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let read = format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC");
    let seconds = hour * 3600 + minute * 60 + second;
    Some((read, days(year, month, day) * 86_400 + seconds))
}

/// Days from 1970 to a date of the Gregorian calendar, the year begun in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tag: u8, text: &str, expected: Option<i64>) {
        assert_eq!(time((tag, text.as_bytes())).map(|(_, s)| s), expected, "{text}");
    }

    #[test]
    fn times_are_read_in_both_forms() {
        check(0x17, "700101000000Z", Some(0));
        check(0x17, "000301000000Z", Some(951_868_800));
        check(0x18, "20261123101500Z", Some(1_795_428_900));
        check(0x18, "99991231235959Z", Some(253_402_300_799));
        check(0x17, "2611", None);
        check(0x17, "26112310150\u{e9}", None);
    }

    #[test]
    fn a_certificate_torn_anywhere_is_no_reason_to_panic() {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it is made");
        let der = made.cert.der();
        // rcgen's own limits: 1975 and 4096.
        assert_eq!(expired(der, 1_795_428_900), None);
        assert!(expired(der, 0).is_some_and(|why| why.contains("not hold yet")));
        assert!(expired(der, 1 << 40).is_some_and(|why| why.contains("4096-01-01")));
        for length in 0..der.len() {
            validity(&der[..length]);
        }
    }
}
