//! The end and the subject of a certificate (RFC 5280, 4.1): of the structure only the way to them is read, since
//! whoever asks has verified the whole, or made it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The tags of DER (X.690) on that way.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const OBJECT_ID: u8 = 0x06;
/// Years of two digits, and of four.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// UTF8String, PrintableString, IA5String.
const TEXT: [u8; 3] = [0x0c, 0x13, 0x16];
/// 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Whose certificate it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) common_names: Vec<String>,
    pub(super) organisations: Vec<String>,
}

/// The fields of a certificate in DER from its validity on.
fn after_issuer(der: &[u8]) -> Option<Values<'_>> {
    let certificate = Values(der).expect(SEQUENCE)?;
    let mut fields = Values(Values(certificate).expect(SEQUENCE)?);
    let (tag, _) = fields.next()?;
    if tag == VERSION {
        // The serial number.
        fields.next()?;
    }
    // The algorithm, the issuer.
    for _ in 0..2 {
        fields.expect(SEQUENCE)?;
    }
    Some(fields)
}

/// When a certificate in DER ends; none of what is no certificate.
pub(super) fn end(der: &[u8]) -> Option<Timestamp> {
    let mut validity = Values(after_issuer(der)?.expect(SEQUENCE)?);
    validity.next()?;
    let (tag, value) = validity.next()?;
    let text = std::str::from_utf8(value).ok()?;
    let text = match tag {
        // RFC 5280, 4.1.2.5.1: from 1950 to 2049.
        UTC_TIME if text.as_bytes().first()? < &b'5' => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

/// The subject of a certificate in DER; none of what is no certificate.
pub(super) fn subject(der: &[u8]) -> Option<Subject> {
    let mut fields = after_issuer(der)?;
    fields.expect(SEQUENCE)?;
    let mut subject = Subject::default();
    for (tag, set) in Values(fields.expect(SEQUENCE)?) {
        if tag != SET {
            return None;
        }
        for (_, pair) in Values(set) {
            let mut pair = Values(pair);
            let kind = pair.expect(OBJECT_ID)?;
            let (tag, value) = pair.next()?;
            let text = std::str::from_utf8(value).ok().filter(|_| TEXT.contains(&tag));
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            match kind {
                COMMON_NAME => subject.common_names.push(text.to_owned()),
                ORGANISATION => subject.organisations.push(text.to_owned()),
                _ => {}
            }
        }
    }
    Some(subject)
}

/// Tagged values, one behind the other.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The next value, if it is tagged so.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // As many bytes of length follow.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn certificate(pairs: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["somewhere".to_owned(); 20]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in pairs {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_and_the_organisation_are_read() {
        let der = certificate(&[
            (DnType::CountryName, "de"),
            (DnType::OrganizationName, "ops"),
            (DnType::CommonName, "änn"),
        ]);
        let subject = subject(&der).unwrap();
        assert_eq!(subject.common_names, ["änn"]);
        assert_eq!(subject.organisations, ["ops"]);
    }

    #[test]
    fn a_subject_may_be_empty() {
        assert_eq!(subject(&certificate(&[])), Some(Subject::default()));
    }

    #[test]
    fn the_end_is_read_as_either_kind_of_time() {
        for (year, expected) in [(2031, "2031-05-07T00:00:00Z"), (2061, "2061-05-07T00:00:00Z")] {
            let mut params = CertificateParams::default();
            params.not_after = rcgen::date_time_ymd(year, 5, 7);
            let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(end(der.der()).unwrap().to_string(), expected);
        }
        assert_eq!(end(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_cut_or_changed_anywhere_is_read_without_harm(
            cut in 0_usize..400, at in 0_usize..400, byte: u8,
        ) {
            let mut der = certificate(&[(DnType::CommonName, "x")]);
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            der.truncate(cut);
            // Whatever comes of it: what is cut has no end.
            proptest::prop_assert_eq!(subject(&der[..der.len().min(40)]), None);
            subject(&der);
        }
    }
}
