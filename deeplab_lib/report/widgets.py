"""ipywidgets as a notebook's file holds them: no longer alive, yet their words and outputs are there."""

from collections.abc import Iterator, Mapping
from typing import Any

from bs4 import BeautifulSoup

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
STATE_MIME = "application/vnd.jupyter.widget-state+json"
Shown = tuple[str, dict[str, Any] | None]  # a line of text, or a notebook output


class WidgetStates:
    """The states of a notebook's widgets by the id of their model; empty where it was saved without them."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        stored = metadata.get("widgets")
        held = stored.get(STATE_MIME) if isinstance(stored, dict) else None
        states = held.get("state") if isinstance(held, dict) else None
        self._models: dict[str, dict[str, Any]] = states if isinstance(states, dict) else {}

    def knows(self, model: Any) -> bool:
        return isinstance(model, str) and isinstance(self._models.get(model), dict)

    def is_progress(self, model: str) -> bool:
        """Whether it is a progress bar, or a row with one."""
        names = [self._name(model), *map(self._name, self._children(model))]
        return any(name.endswith("ProgressModel") for name in names)

    def shown(self, model: str, above: tuple[str, ...] = ()) -> Iterator[Shown]:
        """What the widget shows, from top to bottom; the words of one row (HBox) in one line."""
        if not self.knows(model) or model in above:
            return
        inner = [item for child in self._children(model) for item in self.shown(child, (*above, model))]
        if self._name(model) in ("HBoxModel", "BoxModel"):
            words = " ".join(text for text, _ in inner if text)
            inner = [(words, None), *(item for item in inner if item[1] is not None)]
        elif not inner:
            inner = list(self._own(model))
        yield from inner

    def _own(self, model: str) -> Iterator[Shown]:
        state, name = self._state(model), self._name(model)
        if name == "OutputModel":
            for output in state.get("outputs") or []:
                if isinstance(output, dict):
                    yield "", output
        elif name == "ImageModel":
            for buffer in self._models[model].get("buffers") or []:
                yield "", {"output_type": "display_data", "data": {"image/png": buffer.get("data", "")}, "metadata": {}}
        elif name.endswith("ProgressModel"):
            text = str(state.get("description") or "")
            yield text or f"{state.get('value', '?')} of {state.get('max', '?')}", None
        else:
            labels, index = state.get("_options_labels"), state.get("index")
            value = state.get("value", "")
            if isinstance(labels, list) and isinstance(index, int) and 0 <= index < len(labels):
                value = labels[index]
            words = (BeautifulSoup(str(part), "html.parser").get_text() for part in (state.get("description"), value)
                     if part is not None and part != "")  # fmt: skip
            yield " ".join(" ".join(words).split()), None

    def _children(self, model: str) -> list[str]:
        children = self._state(model).get("children")
        return [str(child).removeprefix("IPY_MODEL_") for child in children] if isinstance(children, list) else []

    def _state(self, model: str) -> dict[str, Any]:
        state = self._models.get(model, {}).get("state")
        return state if isinstance(state, dict) else {}

    def _name(self, model: str) -> str:
        return str(self._models.get(model, {}).get("model_name", ""))
