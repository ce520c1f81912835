"""Every error that a user can meet.

AvfeatError
├── ManifestError         the table of clips is wrong
├── ClipError             one clip cannot be used: becomes a row of the index, never stops a job
│   ├── UnreadableError   not a media file, or nothing in it can be decoded
│   ├── NoPicturesError   an encoder reads pictures, the file has none
│   ├── NoSoundError      an encoder reads sound, the file has none
│   ├── NoFaceError       an encoder reads a face, none is there for longer than allowed
│   ├── TooShortError     fewer samples or frames than one step of the encoder
│   ├── TooLongError      longer than the encoder takes in one piece
│   ├── LengthError       two streams of one clip disagree by more than one frame
│   ├── NotFiniteError    an encoder gave NaN, infinity, or more than the stored type can hold
│   ├── TimeOutError      the clip took longer than allowed
│   └── CrashError        the process that read the clip died, more than once
├── EncoderError          unknown name, impossible layer or stream, features against their card
├── WeightsError          a weight file is missing, unsafe, or not what the encoder needs
├── StoreError            the store is damaged, or does not hold what was asked
├── MediaError            a media file cannot be written
├── SetupError            this machine lacks something: says what to install
├── ProtocolError         a protocol's file is wrong: says in which line
└── ProbeError            a probe cannot be fitted or applied to what it was given
"""


class AvfeatError(Exception):
    """The root: one clear sentence that says what is wrong and what to do."""

    @property
    def kind(self) -> str:
        """The word that stands for this class in index rows and summaries: ``NoFace`` for NoFaceError."""
        return type(self).__name__.removesuffix("Error")


class ManifestError(AvfeatError):
    """The table of clips is wrong."""


class ClipError(AvfeatError):
    """One clip cannot be used; its sentence goes into the index row of that clip."""


class UnreadableError(ClipError):
    """The file is not media, or nothing in it can be decoded."""


class NoPicturesError(ClipError):
    """An encoder reads pictures and the file has none."""


class NoSoundError(ClipError):
    """An encoder reads sound and the file has none."""


class NoFaceError(ClipError):
    """An encoder reads a face and none is there for longer than allowed."""


class TooShortError(ClipError):
    """The clip has fewer samples or frames than one step of the encoder."""


class TooLongError(ClipError):
    """The clip is longer than the encoder takes in one piece."""


class LengthError(ClipError):
    """Two streams of one clip disagree by more than one frame."""


class NotFiniteError(ClipError):
    """An encoder gave NaN, infinity, or more than the stored type can hold."""


class TimeOutError(ClipError):
    """The clip took longer than allowed."""


class CrashError(ClipError):
    """The process that read the clip died, more than once."""


class EncoderError(AvfeatError):
    """Unknown name, impossible layer or stream, or features that break their card."""


class WeightsError(AvfeatError):
    """A weight file is missing, unsafe, or not what the encoder needs."""


class StoreError(AvfeatError):
    """The store is damaged, or does not hold what was asked."""


class MediaError(AvfeatError):
    """A media file cannot be written."""


class SetupError(AvfeatError):
    """This machine lacks something; the sentence says what to install."""


class ProtocolError(AvfeatError):
    """The file of a protocol is wrong; the sentence begins with its name and the line."""


class ProbeError(AvfeatError):
    """A probe cannot be fitted or applied to what it was given."""
