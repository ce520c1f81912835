"""avfeat: frozen audio-visual features of talking-face videos, extracted once and stored whole."""
