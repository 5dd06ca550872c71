"""The panel in napari: the only place that says napari, qtpy, superqt or pyqtgraph."""
