//! Stop signals: the interface numbers them in its own way and names them in the kernel's.

use super::RequestError;
use crate::cri::proto::Signal;

const PREFIX: &str = "SIGNAL_";

/// The name of a signal (`SIGUSR1`, `SIGRTMIN+3`); `None` for the default one.
pub(super) fn signal_name(field: &str, number: i32) -> Result<Option<String>, RequestError> {
    let signal = Signal::try_from(number).map_err(|_| RequestError::unknown(field, number))?;
    if signal == Signal::RuntimeDefault {
        return Ok(None);
    }
    let name = signal.as_str_name().trim_start_matches(PREFIX);
    Ok(Some(name.replace("RTMINPLUS", "RTMIN+").replace("RTMAXMINUS", "RTMAX-")))
}

/// The interface's number of a signal name; the default one for a name that it does not have.
pub(crate) fn signal_number(name: &str) -> Signal {
    let name = name.replace("RTMIN+", "RTMINPLUS").replace("RTMAX-", "RTMAXMINUS");
    Signal::from_str_name(&format!("{PREFIX}{name}")).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_of_the_interface_survives_the_round_trip() {
        for number in 1..=65 {
            let name = signal_name("f", number).unwrap().unwrap();
            assert!(name.starts_with("SIG"), "{name}");
            assert_eq!(i32::from(signal_number(&name)), number, "{name}");
        }
        assert_eq!(signal_name("f", 0), Ok(None));
        assert!(signal_name("f", 66).is_err());
        assert_eq!(signal_name("f", 38).unwrap().unwrap(), "SIGRTMIN+3");
        assert_eq!(signal_name("f", 51).unwrap().unwrap(), "SIGRTMAX-14");
        assert_eq!(signal_number("no signal"), Signal::RuntimeDefault);
    }
}
