-- The document of notebook.lua for a browser: MathML with the corrections that browsers need, figures with numbered
-- captions, pictures inside of the page.

local OPTIONS = pandoc.WriterOptions({ wrap_text = 'none', html_math_method = 'mathml' })
local MIME = { svg = 'image/svg+xml', png = 'image/png', jpg = 'image/jpeg', jpeg = 'image/jpeg', gif = 'image/gif' }

local function raw(text) return pandoc.RawBlock('html', text) end
local function escaped(text)
  return (text:gsub('[&<>"]', { ['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;', ['"'] = '&quot;' }))
end

-- Formulas ------------------------------------------------------------------------------------------------------

-- \mathbf is upright in TeX; pandoc writes the bold italic letters.
local function upright_bold(text)
  return '<mi>' .. text:gsub(utf8.charpattern, function(character)
    local code = utf8.codepoint(character)
    if code >= 0x1D468 and code <= 0x1D49B then return utf8.char(code - 0x68) end
  end) .. '</mi>'
end

-- Browsers do not stretch the bar of \overline: a border does.
local function overlined(mathml)
  local open, position = {}, 1
  while true do
    local first, last, closing = mathml:find('<(/?)mover>', position)
    if not first then return mathml end
    position = last + 1
    if closing == '' then
      table.insert(open, first)
    else
      local start = table.remove(open)
      local inner = mathml:sub(start, last):match('^<mover>(.*)<mo accent="true">[¯‾]+</mo></mover>$')
      if inner then
        local box = '<mrow style="border-top:0.06em solid;padding-top:0.1em">' .. inner .. '</mrow>'
        mathml = mathml:sub(1, start - 1) .. box .. mathml:sub(last + 1)
        position = start + #box
      end
    end
  end
end

-- "log p" needs the thin space that browsers do not put; "log(p)" does not.
local function spaced_operators(mathml)
  return (mathml:gsub('<mo>&#8289;</mo></mrow>()', function(position)
    local rest = mathml:sub(position, position + 80)
    local tight = rest:match('^</') or rest:match('^<mo') or rest:match('^<mrow><mo') or rest:match('^<m%a+><mo')
    return '<mo>&#8289;</mo>' .. (tight and '' or '<mspace width="0.17em"></mspace>') .. '</mrow>'
  end))
end

local function formula(math)
  local messages, markup = pandoc.log.silence(function()
    return pandoc.write(pandoc.Pandoc({ pandoc.Plain({ math }) }), 'html', OPTIONS)
  end)
  if #messages > 0 then return pandoc.Code(math.text) end
  if math.text:match('\\mathbf') then
    markup = markup:gsub('<mi mathvariant="bold%-italic">(.-)</mi>', upright_bold)
  end
  markup = markup:gsub(' xmlns="[^"]*"', '') -- HTML5 knows <math>, and an address in the page looks like a load
  return pandoc.RawInline('html', spaced_operators(overlined(markup)))
end

local FORMULAS = {
  traverse = 'topdown',
  Span = function(span)
    if span.classes[1] == 'equation' then
      local number = '<span class="number">(' .. span.attributes.number .. ')</span>'
      return pandoc.Span({ formula(span.content[1]), pandoc.RawInline('html', number) },
        pandoc.Attr(span.identifier, { 'equation' })), false
    end
  end,
  Math = formula,
}

-- Tables --------------------------------------------------------------------------------------------------------

-- Each head says of what it is the head, so that a screen reader names row and column with every number.
local function scoped(tbl)
  local function scope(cell, of) if #cell.contents > 0 then cell.attributes.scope = of end end
  for _, row in ipairs(tbl.head.rows) do
    for _, cell in ipairs(row.cells) do scope(cell, cell.col_span > 1 and 'colgroup' or 'col') end
  end
  for _, body in ipairs(tbl.bodies) do
    for _, row in ipairs(body.body) do
      for index = 1, math.min(body.row_head_columns, #row.cells) do scope(row.cells[index], 'row') end
    end
  end
  return tbl
end

-- Pictures and floats -------------------------------------------------------------------------------------------

local function picture(element, alt)
  local file = io.open(element.src, 'rb')
  if not file then return element end
  local data = file:read('a')
  file:close()
  local mime = MIME[element.src:match('%.(%w+)$'):lower()] or 'image/png'
  local width = element.attributes.width
  if width and tonumber(width) then width = width .. 'px' end
  return pandoc.RawInline('html', '<img src="' .. pandoc.mediabag.make_data_uri(mime, data) .. '" alt="'
    .. escaped(alt or pandoc.utils.stringify(element.caption)) .. '"'
    .. (width and ' style="width:' .. escaped(width) .. '"' or '') .. '>')
end

local function part(div, class)
  for _, block in ipairs(div.content) do
    if block.t == 'Div' and block.classes[1] == class then return block.content end
  end
end

local function float(div)
  local kind, number, alt = div.classes[2], div.attributes.number, div.attributes.alt
  local caption, note = part(div, 'caption'), part(div, 'note')
  local out, body, wide = pandoc.Blocks({}), pandoc.Blocks({}), false
  for _, block in ipairs(div.content) do
    if block.t == 'Table' then
      wide = #block.colspecs > 12
      local name = 'Table' .. (number and ' ' .. number or '')
      local stop = wide and ' tabindex="0" role="region" aria-label="' .. name .. '"' or '' -- others scroll on phones alone
      body:extend({ raw('<div class="scroll"' .. stop .. '>'), block, raw('</div>') })
    elseif not (block.t == 'Div' and (block.classes[1] == 'caption' or block.classes[1] == 'note')) then
      body:insert(block)
    end
  end
  body = body:walk({ Image = function(element) return picture(element, alt) end })
  local lead = number and '<span class="number">' .. (kind == 'tbl' and 'Table ' or 'Figure ') .. number .. '.</span> '
  local text = pandoc.Inlines({})
  if lead then text:insert(pandoc.RawInline('html', lead)) end
  if caption then text:extend(pandoc.utils.blocks_to_inlines(caption)) end
  local head = #text > 0 and { raw('<figcaption>'), pandoc.Plain(text), raw('</figcaption>') } or {}
  local id = div.identifier ~= '' and ' id="' .. div.identifier .. '"' or ''
  out:insert(raw('<figure class="' .. kind .. (wide and ' wide' or '') .. '"' .. id .. '>'))
  if kind == 'tbl' then out:extend(head) end
  if kind == 'fig' then body = pandoc.Blocks({ raw('<div class="scroll">') }) .. body .. { raw('</div>') } end
  out:extend(body)
  if note then out:insert(pandoc.Div(note, pandoc.Attr('', { 'note' }))) end
  if kind ~= 'tbl' then out:extend(head) end
  out:insert(raw('</figure>'))
  return out
end

local REST = {
  traverse = 'topdown',
  Div = function(div) if div.classes[1] == 'float' then return float(div), false end end,
  Image = function(element) return picture(element) end,
  Header = function(header)
    local number = header.attributes.number
    header.attributes.number = nil
    if number then
      header.content:insert(1, pandoc.Span({ pandoc.Str(number) }, pandoc.Attr('', { 'number' })))
      header.content:insert(2, pandoc.Space())
    end
    return header
  end,
}

function Pandoc(doc)
  doc = doc:walk(FORMULAS):walk({ Table = scoped })
  doc.blocks = doc.blocks:walk(REST)
  return doc
end
