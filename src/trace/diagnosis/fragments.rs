//! The fragments of a large packet: whether the later ones came as far as the first, in which the mark is.

use std::ops::Range;

use super::{Scene, Sighting, Verdict};
use crate::error::Result;
use crate::pcapng::Direction;
use crate::trace::cause::Cause;
use crate::trace::sighting::{self, Echo, What};

/// A later fragment at one place.
struct Later {
    at: Sighting,
    /// Which bytes of the packet's payload it has.
    bytes: Range<usize>,
    /// Whether none follows.
    is_last: bool,
}

impl Scene<'_> {
    /// Why a later fragment of the packet went less far than the first, which was seen last at `last`. The fragment is
    /// looked into as if it were the packet.
    pub(super) fn lost_fragment(&self, last: &Sighting) -> Result<Option<Verdict>> {
        let Some(first) = echo_of(last).filter(|echo| echo.fragment) else { return Ok(None) };
        let later = self.later_fragments(last);
        let has_come = || later.iter().filter(|fragment| self.is_same_place(&fragment.at, last));
        let mut come: Vec<Range<usize>> = has_come().map(|fragment| fragment.bytes.clone()).collect();
        come.push(0..sighting::stated_payload(&first.bytes));
        let come = joined(come);
        let is_whole = come.len() == 1 && has_come().any(|fragment| fragment.is_last);
        if is_whole {
            return Ok(None);
        }
        let is_here = |bytes: &Range<usize>| come.iter().any(|it| it.start <= bytes.start && bytes.end <= it.end);
        let place = format!("{} of {}", self.frame(last).interface, self.name(last.host));
        let lost = later.iter().map(|fragment| &fragment.bytes).filter(|bytes| !is_here(bytes));
        let Some(lost) = lost.min_by_key(|bytes| bytes.start) else {
            let fact = format!("the packet is in fragments, of which not all came to {place}");
            return Ok(Some(self.verdict(
                Cause::Unexplained,
                last.host,
                [fact].into_iter().chain(self.risen(last.host)),
            )));
        };
        // The other leg stays as it was.
        let mut sightings: Vec<Sighting> = self.steps().filter(|step| step.leg != last.leg).cloned().collect();
        sightings.extend(later.iter().filter(|fragment| fragment.bytes == *lost).map(|fragment| fragment.at.clone()));
        let scene = self.with(&sightings);
        let Some(end) = scene.last() else { return Ok(None) };
        let ended = format!(
            "the packet is in fragments: the first came to {place}, and the one with the bytes from {} on to {} of {}",
            lost.start,
            self.frame(end).interface,
            self.name(end.host)
        );
        let verdict = scene.ended(end)?;
        let facts = [ended].into_iter().chain(verdict.facts).collect();
        Ok(Some(Verdict { facts, ..verdict }))
    }

    /// The later fragments of the packet on this leg, wherever they were seen.
    fn later_fragments(&self, last: &Sighting) -> Vec<Later> {
        let steps = || self.steps().filter(|step| step.leg == last.leg);
        // A router that translates addresses gives the packet others.
        let mut firsts: Vec<&Echo> = Vec::new();
        for echo in steps().filter_map(echo_of).filter(|echo| echo.fragment) {
            if !firsts.iter().any(|known| sighting::is_same_packet(&known.bytes, &echo.bytes)) {
                firsts.push(echo);
            }
        }
        let begin = steps().next().map_or(0, |step| step.frame);
        let later = self.frames.iter().enumerate().skip(begin).filter(|(_, (_, frame))| !frame.is_foreign);
        later
            .filter_map(|(frame, (host, it))| {
                let packet = it.packet()?;
                let found = firsts.iter().find_map(|first| sighting::later_fragment(packet, first))?;
                let at = Sighting { frame, host: *host, leg: last.leg, what: found.what };
                Some(Later { at, bytes: found.bytes, is_last: found.is_last })
            })
            .collect()
    }

    fn is_same_place(&self, one: &Sighting, other: &Sighting) -> bool {
        let place = |it: &Sighting| {
            let frame = self.frame(it);
            (it.host, frame.interface.clone(), frame.direction == Direction::Out, matches!(it.what, What::Inside(..)))
        };
        place(one) == place(other)
    }
}

/// The echo at a place, in a datagram or not.
fn echo_of(step: &Sighting) -> Option<&Echo> {
    match &step.what {
        What::Echo(echo) => Some(echo),
        What::Inside(datagram, _) => datagram.echo.as_ref(),
        What::Refused(_) => None,
    }
}

/// Ranges without gaps between them as one.
fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut().filter(|before| range.start <= before.end) {
            Some(before) => before.end = before.end.max(range.end),
            None => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_where_there_is_no_gap() {
        assert_eq!(joined(vec![1480..2960, 0..1480, 2960..3000, 0..8, 4000..4008]), [0..3000, 4000..4008]);
        assert_eq!(joined(vec![2960..3000, 0..1480]), [0..1480, 2960..3000]);
    }
}
